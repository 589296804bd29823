"""Pipes, devices, sockets and links where a file or a folder should be: no command waits or strays.

Every command here runs in a process of its own; one that waits is ended, and the test has failed.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
from collections.abc import Callable
from pathlib import Path

import pytest
import tiny
from processes import start
from samples import examples_file, ticket_for

from tamtctl.foundations.errors import TicketError
from tamtctl.foundations.plain_files import leads_out, open_regular, read_regular
from tamtctl.ticket.ticket import Ticket

SECONDS = 60


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.save(tmp_path_factory.mktemp("models") / "bert", "bert")


@pytest.fixture(scope="module")
def ticket(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return ticket_for(model, tmp_path_factory.mktemp("tickets") / "ticket")


@pytest.fixture
def here(tmp_path: Path, ticket: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    shutil.copytree(ticket, tmp_path / "t")
    return tmp_path


def outcome(folder: Path, *arguments: object) -> tuple[int | None, str, str]:
    """Run a command in a process that is given a while, and return how it ended."""
    process = start(arguments, folder)
    process.join(SECONDS)
    if process.exitcode is None:
        process.kill()
        pytest.fail(f"still waiting: {arguments}")
    return process.exitcode, (folder / "out").read_text(), (folder / "err").read_text()


def as_pipe(path: Path) -> None:
    os.mkfifo(path)


def as_socket(path: Path) -> None:
    place = Path.cwd()
    os.chdir(path.parent)  # a socket's name may not be long
    with socket.socket(socket.AF_UNIX) as one:
        one.bind(path.name)
    os.chdir(place)


def as_device(path: Path) -> None:
    path.symlink_to("/dev/zero")


def as_loop(path: Path) -> None:
    path.symlink_to(path.name)


def as_link_to_pipe(path: Path) -> None:
    os.mkfifo(path.parent / "pipe")
    path.symlink_to("pipe")


ODD: dict[str, Callable[[Path], None]] = {
    "pipe": as_pipe,
    "socket": as_socket,
    "device": as_device,
    "loop": as_loop,
    "link to a pipe": as_link_to_pipe,
}


@pytest.mark.parametrize("kind", ODD)
def test_reading(tmp_path: Path, kind: str) -> None:
    ODD[kind](tmp_path / "odd")
    for read in (open_regular, lambda path: read_regular(path, 10)):
        with pytest.raises(OSError):  # noqa: PT011, of several kinds
            read(tmp_path / "odd")
    (tmp_path / "file").write_bytes(b"12345")
    assert read_regular(tmp_path / "file", 5) == b"12345"
    with pytest.raises(OSError, match="more than 4 bytes"):
        read_regular(tmp_path / "file", 4)


def test_links_that_lead_out(tmp_path: Path) -> None:
    storage = tmp_path / "models--a--b"
    snapshot = storage / "snapshots" / "c"
    snapshot.mkdir(parents=True)
    (storage / "blobs").mkdir()
    for path in (storage / "blobs" / "x", storage / "y", snapshot / "z", tmp_path / "secret"):
        path.touch()
    (storage / "blobs" / "link").symlink_to(tmp_path / "secret")
    inside = {"file": None, "blob": "../../blobs/x", "neighbour": "z"}
    outside = {
        "above": "../../y", "chain": "../../blobs/link", "absolute": str(tmp_path / "secret"),
        "broken": "../../nowhere",
    }  # fmt: skip
    for name, target in (inside | outside).items():
        if target is None:
            (snapshot / name).touch()
        else:
            (snapshot / name).symlink_to(target)
    assert {name for name in inside | outside if leads_out(snapshot, name)} == set(outside)
    (storage / "blobs").rename(tmp_path / "moved")
    (storage / "blobs").symlink_to(tmp_path / "moved")
    assert leads_out(snapshot, "blob")


@pytest.mark.parametrize("kind", ODD)
@pytest.mark.parametrize("name", ["ticket.json", "mask.safetensors", "README.md"])
def test_in_a_ticket(here: Path, name: str, kind: str) -> None:
    (here / "t" / name).unlink()
    ODD[kind](here / "t" / name)
    if name != "README.md":
        assert any(check.passed is False for check in Ticket.verify(here / "t"))
    code, _, error = outcome(here, "push", "t", "org/name", "--dry-run")
    assert (code, error.count("\n")) == (1, 1), error
    assert error.startswith("error: ")
    code, _, error = outcome(here, "inspect", "t")
    assert code == (0 if name == "README.md" else 1), error


def test_in_a_listing(here: Path, ticket: Path) -> None:
    """Odd folders below runs/ and in the Hub's cache hide nothing and stop nothing."""
    shutil.copytree(ticket, here / "runs" / "good" / "ticket")
    for number, make in enumerate(ODD.values()):
        for name in ("ticket.json", "README.md", "more"):
            folder = here / "runs" / f"{number}-{name}" / "ticket"
            shutil.copytree(ticket, folder)
            (folder / name).unlink(missing_ok=True)
            make(folder / name)
        make(here / "runs" / f"odd-{number}") if number != 4 else None
    (here / "runs" / "linked").symlink_to(here / "runs")
    code, out, error = outcome(here, "list", "-q")
    assert code == 0, error
    assert "runs/good/ticket" in out.splitlines()
    assert "runs/0-README.md/ticket" in out.splitlines()
    assert "runs/0-ticket.json/ticket" not in out.splitlines()


@pytest.mark.parametrize("kind", ["pipe", "link to a pipe", "loop"])
@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "model.safetensors", "more"])
def test_in_a_model(here: Path, model: Path, text_file: Path, name: str, kind: str) -> None:
    shutil.copytree(model, here / "m")
    (here / "m" / name).unlink(missing_ok=True)
    ODD[kind](here / "m" / name)
    code, _, error = outcome(
        here, "search", "--dry-run", "--sparsity", "0.5", "--model", "m", "--corpus", text_file,
        "--sequence-length", "32",
    )  # fmt: skip
    if (name, kind) == ("more", "loop"):
        assert code == 0, error
    else:
        assert code == 1
        assert error.splitlines()[-1].startswith("error: ")
        assert "Traceback" not in error


def test_elsewhere(here: Path, model: Path) -> None:
    """A fine-tuned checkpoint's facts, a recipe, labelled files, an import."""
    os.mkfifo(here / "pipe.jsonl")
    os.mkfifo(here / "pipe.toml")
    shutil.copytree(model, here / "m")
    os.mkfifo(here / "m" / "metrics.json")
    good = examples_file(here / "good.jsonl")
    for command in (
        "evaluate m",
        "search --sparsity 0.5 --recipe pipe.toml --dry-run",
        "import pipe.toml --model nano --output-dir out",
        f"finetune own --train pipe.jsonl --dev {good} --model {model} --dense",
        f"finetune own --train {good} --dev pipe.jsonl --model {model} --dense",
        f"finetune own --train {good} --dev {good} --model m --dense --dry-run",
        "evaluate m --task own --predict pipe.jsonl",
    ):
        code, _, error = outcome(here, *command.split())
        assert code in (1, 2), (command, error)
        assert error.splitlines()[-1].startswith("error: "), (command, error)


@pytest.mark.parametrize("name", ["config.json", "result.json", "metrics.jsonl", "ticket"])
@pytest.mark.parametrize("kind", ["pipe", "link out"])
def test_in_a_run(here: Path, text_file: Path, name: str, kind: str) -> None:
    """A run's folder that holds links or pipes is not written to."""
    (here / "victim").mkdir()
    (here / "victim" / "ticket.json").write_text("{}")
    (here / "run").mkdir()
    (here / "run" / "config.json").write_text("{}")
    (here / "run" / name).unlink(missing_ok=True)
    if kind == "pipe":
        os.mkfifo(here / "run" / name)
    else:
        (here / "run" / name).symlink_to(here / "victim")
    search = f"search --sparsity 0.5 --model nano --corpus {text_file} --steps 1 --output-dir run"
    code, _, error = outcome(here, *search.split())
    assert code in (1, 2)
    assert error.splitlines()[-1].startswith("error: ")
    assert [path.name for path in (here / "victim").iterdir()] == ["ticket.json"]


def test_output_folders_that_are_links(here: Path) -> None:
    """A link to nothing or to an empty folder is a wish; nothing is deleted through one."""
    (here / "elsewhere").mkdir()
    (here / "empty").symlink_to("elsewhere")
    (here / "new").symlink_to("not-there")
    for name in ("empty", "new"):
        assert outcome(here, "import", "t", "--output-dir", name)[0] == 0
        assert (here / name).is_symlink()
        assert Ticket.load(here / name).sparsity == Ticket.load(here / "t").sparsity
    shutil.copytree(here / "t", here / "mine")
    (here / "mine" / "ticket.json").write_text(json.dumps({"mine": True}))
    (here / "linked").symlink_to("mine")
    code, _, error = outcome(here, "import", "t", "--output-dir", "linked")
    assert code == 1
    assert "is not empty; give a new or an empty folder" in error
    with pytest.raises(TicketError, match="is a link; give "):
        Ticket.load(here / "t").save_pretrained(here / "linked")
    assert json.loads((here / "mine" / "ticket.json").read_text()) == {"mine": True}
