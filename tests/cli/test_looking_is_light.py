"""Looking at tickets takes neither torch nor transformers: what answers at once imports neither."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from small_tickets import small_ticket

from tamtctl.models.loading import load_encoder
from tamtctl.ticket.ticket import Ticket

HEAVY = {"torch", "transformers", "datasets"}
COMMANDS = [
    "",
    "-h",
    "list",
    "list --sort loss --json",
    "inspect nano-0.7",
    "inspect nano-0.7 --full --json",
    "inspect nano-0.7 nano-0.8 nano-0.9",
    "inspect delta",
    "inspect delta nano-0.7",
    "inspect damaged",
    "inspect nowhere",
    "pull nowhere",
    "pull no/ticket",
    "push nowhere me/ticket --dry-run",
    "push damaged me/ticket --dry-run",
    "push nano-0.7 me/ticket --dry-run",
    "push nano-0.7 nowhere",
]


def heavy_imports(code: str, folder: Path) -> str:
    """Run code in a process of its own, and return what it has imported of what takes long."""
    code += f"\nsys.stderr.write(' '.join(sorted({HEAVY!r} & sys.modules.keys())))"
    done = subprocess.run(
        [sys.executable, "-c", f"import sys\n{code}"],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stderr.rpartition("\n")[2]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A working directory with a ticket stored as a difference, and a damaged one."""
    weights = load_encoder("nano", with_head=False).weights
    Ticket.from_pretrained("nano-0.5").encode("delta", weights).save_pretrained(tmp_path / "delta")
    small_ticket().save_pretrained(tmp_path / "damaged")
    (tmp_path / "damaged" / "mask.safetensors").write_bytes(b"x")
    return tmp_path


def test_commands_that_look_import_nothing_heavy(folder: Path) -> None:
    code = f"""
from tamtctl.cli import app as cli
for command in {COMMANDS!r}:
    sys.argv = ["tamtctl", *command.split()]
    try:
        cli.main()
    except SystemExit:
        pass
    if found := {HEAVY!r} & sys.modules.keys():
        sys.stderr.write(f"{{command}}: ")
        break
"""
    assert heavy_imports(code, folder) == ""


def test_the_library_looks_without_importing_anything_heavy(folder: Path) -> None:
    code = """
import tamtctl
tamtctl.known_tickets(), tamtctl.list_tickets("size")
ticket = tamtctl.Ticket.from_pretrained("nano-0.7")
repr(ticket), ticket.sparsity, ticket.masks_digest, ticket.decoded("pooler.dense.weight")
tamtctl.inspect_ticket("delta").to_dict()
tamtctl.compare_masks(["delta", "nano-0.9"]).to_dict()
"""
    code = code.replace("pooler.dense.weight", "embeddings.word_embeddings.weight")
    assert heavy_imports(code, folder) == ""
