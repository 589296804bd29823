# ruff: noqa: E501
"""Runs spoilt ticket folders through every command that reads one: a process of `test_fuzz`.

    python tests/support/fuzz_tickets.py FOLDER OUT SHARD SHARDS SEEDS [MUTATOR:SEED …]

Each line of OUT tells of one case: mutator, seed, whether the ticket was accepted, and what went
wrong, if anything did. What may go wrong: any exception but the one-line error, a raw control
character, a file elsewhere, more memory than `MEMORY` or more time than `SECONDS`, `verify`, `load`
and `inspect` of different minds, or a mask that is not what the decoder in the format's description
makes of the same bytes.
"""

from __future__ import annotations

import contextlib
import functools
import io
import json
import os
import re
import resource
import shutil
import signal
import sys
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

os.environ |= {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", "HF_HUB_DISABLE_PROGRESS_BARS": "1"}
os.environ.pop("HF_TOKEN", None)

import numpy as np
import tiny
import torch
import typer.main
import zstandard
from masks import magnitude_masks, random_masks
from ticket_mutators import MUTATORS, Files, spoilt

from tamtctl.cli import app as cli
from tamtctl.foundations.errors import TicketError
from tamtctl.foundations.untrusted import Defect
from tamtctl.models.loading import load_encoder
from tamtctl.ticket.format.mask_codec import decode_mask
from tamtctl.ticket.heads import head_parameters
from tamtctl.ticket.hub.card import card
from tamtctl.ticket.ticket import Ticket

SECONDS = 120  # of a case, on a busy machine
MEMORY = 2**30  # that a case may ask for beside what the process has
THOROUGH = 25  # of so many accepted tickets, one goes through the commands that load its model

DOCUMENT = Path(__file__).parents[2] / "tickets" / "README.md"
LIGHT = ["inspect t", "inspect t good", "inspect t --json", "list", "push t org/x --dry-run --json"]
HEAVY = [
    "import t --output-dir out --encoding {encoding}",
    "push t org/x --dry-run --encoding {encoding}",
    "export t --model model --output-dir exported",
    "export t --model model --output-dir exported --trained-head",
    "evaluate t --model model --task mlm --corpus text.txt --sequence-length 32 --blocks 2",
    "evaluate t --model model --task mlm --corpus text.txt --sequence-length 32 --head ticket",
]
COMPARE = "compare t --model model --corpus text.txt --sequence-length 32 --dry-run"


def prepare(folder: Path) -> None:
    """Make a model, a text and good tickets of every encoding."""
    model = tiny.save(folder / "model", "bert")
    tiny.save(folder / "bare", "bert", with_head=False)
    (folder / "text.txt").write_text("\n".join(f"the file of the list {n}" for n in range(400)))
    encoder = load_encoder(str(model), with_head=True)
    weights = {name: weight.clone() for name, weight in encoder.weights.items()}
    head = {name: p.detach().clone() for name, p in head_parameters(encoder.model).items()}
    masks = random_masks(weights, 0.5, seed=1)
    few = dict(list(weights.items())[:2])
    made = {
        "bits": (weights, masks, head, "bits"),
        "zstd": (weights, random_masks(weights, 0.9, seed=2), None, "zstd"),
        "delta": (weights, magnitude_masks(weights, 0.7), head, "delta"),
        "few": (few, {name: masks[name] for name in few}, None, "bits"),
    }
    for name, (of, chosen, its_head, encoding) in made.items():
        ticket = Ticket.create(
            of, chosen, base_model_id="model", revision=None, model_type="bert",
            target_sparsity=0.5, method="tamt", objective="mlm",
            search={"seed": 1, "corpus": ["text.txt"], "sequence_length": 32},
            metrics={"losses": {"dense": 2.5, "ticket": 2.75}, "scores": {"sst2": {"accuracy": 0.5}}},
            mlm_head=its_head,
        )  # fmt: skip
        ticket.encode(encoding, weights).save_pretrained(folder / "bases" / name)
    shutil.copytree(folder / "bases" / "bits", folder / "good")


class Cases:
    """Cases in one folder, one after the other."""

    def __init__(self, folder: Path) -> None:
        os.chdir(folder)
        os.environ["TAMTCTL_CACHE"] = str(folder / "cache")
        self.bases: list[Files] = [
            {
                file.name: file.read_bytes()
                for file in sorted(base.iterdir())
                if file.name
                in ("ticket.json", "mask.safetensors", "mlm_head.safetensors", "README.md")
            }
            for base in sorted(Path("bases").iterdir())
        ]
        (code,) = re.findall(
            r"```python\n(.*?)```", DOCUMENT.read_text(encoding="utf-8"), re.DOTALL
        )
        reader: dict[str, Any] = {"np": np, "zstandard": zstandard}
        exec(code, reader)
        self.decode: Callable[..., Any] = reader["decode"]
        self.accepted, self.count = 0, 0

    def run(self, mutator: str, seed: int) -> dict[str, Any]:
        """Run a case and tell what came of it."""
        told: dict[str, Any] = {"mutator": mutator, "seed": seed, "accepted": False, "wrong": None}
        signal.alarm(SECONDS)
        try:
            told["accepted"] = self._run(spoilt(mutator, seed, self.bases))
        except BaseException as error:
            told["wrong"] = f"{type(error).__name__}: {error}"[:1500]
            told["trace"] = traceback.format_exc()[-3000:]
        finally:
            signal.alarm(0)
        return told

    def _run(self, files: Files) -> bool:
        for name in ("t", "out", "exported", "report", "runs"):
            shutil.rmtree(name, ignore_errors=True)
        before = sorted(Path().iterdir())
        for folder in (Path("t"), Path("runs/x/ticket")):
            folder.mkdir(parents=True)
            for name, content in files.items():
                (folder / name).write_bytes(content)
        failures = [check.detail for check in Ticket.verify("t") if check.passed is False]
        try:
            ticket = Ticket.load("t")
        except TicketError as error:
            ticket, said = None, str(error)
        if ticket is None:
            assert failures
            assert said.endswith(failures[0]), (said, failures)
        else:
            assert not failures, failures
            self.accepted += 1
            self._compare_decoders(ticket)
            assert card(ticket).startswith("---\n")
        is_good = ticket is not None
        self.count += 1
        more = [*HEAVY, COMPARE]
        if not is_good:  # which all of them have to find out before any work
            more = [more[self.count % len(more)]]
        elif self.accepted % THOROUGH:
            more = [HEAVY[self.count % 2]]
        for command in [*LIGHT, *more]:
            encoding = ("bits", "zstd", "delta")[self.accepted % 3]
            code = command_code(command.format(encoding=encoding))
            if command.startswith(("inspect", "list")):
                expected = 0 if is_good or command == "list" else 1
                both_needed = command == "inspect t good"
                assert code == expected or (both_needed and is_good), (command, code)
            elif not is_good:
                assert code == 1, (command, code)
        made = {"t", "runs", "out", "exported", "report", "cache"}
        strange = [
            p.name for p in sorted(Path().iterdir()) if p not in before and p.name not in made
        ]
        assert not strange, strange
        return is_good

    def _compare_decoders(self, ticket: Ticket) -> None:
        """Compare every mask with what the format's own description makes of the same bytes."""
        for name, entry in ticket.parameters.items():
            generator = torch.Generator().manual_seed(len(name))
            if entry.numel >= 10**7:
                continue
            weight = torch.randn(entry.shape, generator=generator).numpy()
            arguments = (entry.shape, entry.kept, weight, ticket.encoding)
            theirs = self.decode(ticket.stored[name], *arguments)
            try:
                ours = decode_mask(
                    ticket.stored[name], ticket.encoding, entry.shape, entry.kept, weight
                )
            except Defect:  # these weights are others, so that the counts may not fit
                assert ticket.encoding == "delta"
                assert int(theirs.sum()) != entry.kept
                continue
            assert np.array_equal(ours, theirs), name
            assert int(ours.sum()) == entry.kept


def command_code(*command: str) -> int:
    """Run a command in this process, look at what it says, and return its exit code.

    Args:
        *command: A line without quotes, or the arguments.
    """
    out, err = io.StringIO(), io.StringIO()
    sys.argv = ["tamtctl", *(command if len(command) > 1 else command[0].split())]
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            cli.main()
        except SystemExit as ended:
            code = ended.code
    said = out.getvalue() + err.getvalue()
    odd = {c for c in said if not c.isprintable() and c != "\n"}
    assert not odd, (command, odd)
    assert code in (0, 1, 2), (command, code)
    if code:
        line = err.getvalue().splitlines()[-1]
        assert line.startswith("error: "), (command, err.getvalue())
        assert "Traceback" not in err.getvalue()
        assert "internal error" not in line, (command, line)
        assert "not enough memory" not in line, (command, line)
    elif "--json" in sys.argv:
        json.loads(out.getvalue())
    return int(code)


def cases(seeds: int, shard: int, shards: int, chosen: list[str]) -> Iterator[tuple[str, int]]:
    if chosen:
        for case in chosen:
            name, _, seed = case.rpartition(":")
            yield name, int(seed)
        return
    for number in range(shard, seeds, shards):
        yield from ((name, number) for name in MUTATORS)


def too_slow(*_: object) -> None:
    raise TimeoutError(f"more than {SECONDS} seconds")


def limit_memory() -> None:
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit = pages * resource.getpagesize() + MEMORY
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))


# Built anew for each command, it would take most of the time.
typer.main.get_command = functools.cache(typer.main.get_command)


def main(folder: str, out: str, shard: str, shards: str, seeds: str, *chosen: str) -> None:
    signal.signal(signal.SIGALRM, too_slow)
    if not Path(folder, "good").exists():
        prepare(Path(folder))
    runner = Cases(Path(folder))
    shutil.copytree("good", "t", dirs_exist_ok=True)
    for command in [*LIGHT, *HEAVY, COMPARE]:  # what is loaded once does not count
        for folder_made in ("out", "exported", "report"):
            shutil.rmtree(folder_made, ignore_errors=True)
        code = command_code(command.format(encoding="delta"))
        assert code == 0, command
    limit_memory()
    with Path(out).open("a") as file:
        for name, seed in cases(int(seeds), int(shard), int(shards), list(chosen)):
            file.write(json.dumps(runner.run(name, seed)) + "\n")
            file.flush()


if __name__ == "__main__":
    main(*sys.argv[1:])
