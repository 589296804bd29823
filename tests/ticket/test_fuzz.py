"""Strangers' input by the thousand: tickets, a Hub that lies, and names. See `nox -s fuzz`."""

from __future__ import annotations

import dataclasses
import json
import os
import random
import subprocess
import sys
import time
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
from hub_server import SENT_AS_IS, Fault, ask, running_hub
from memory import at_most
from small_tickets import small_ticket
from ticket_mutators import MUTATORS, STRANGE, any_value, at, places

from tamtctl.foundations.errors import TamtctlError
from tamtctl.ticket.hub.cache import pulled_tickets
from tamtctl.ticket.hub.pulling import pull

SUPPORT = Path(__file__).parents[1] / "support"
SEEDS = 500  # of each of the twenty mutators
FAULTS = 500
NAMES = 300
WORKERS = 2

# What is never part of a ticket leaves it valid.
ALWAYS_ACCEPTED = {"other_files", "card"}


def run_cases(folder: Path, seeds: int, chosen: list[str], workers: int) -> list[dict[str, Any]]:
    script = str(SUPPORT / "fuzz_tickets.py")
    processes = []
    for shard in range(workers):
        place, out = folder / f"work-{shard}", folder / f"out-{shard}.jsonl"
        place.mkdir()
        command = [sys.executable, script, place, out, shard, workers, seeds, *chosen]
        processes.append(subprocess.Popen(list(map(str, command)), stdout=subprocess.DEVNULL))
    assert [process.wait() for process in processes] == [0] * workers
    return [
        json.loads(line)
        for out in sorted(folder.glob("out-*.jsonl"))
        for line in out.read_text().splitlines()
    ]


def check(told: list[dict[str, Any]]) -> None:
    wrong = [f"{one['mutator']}:{one['seed']}  {one['wrong']}" for one in told if one["wrong"]]
    assert not wrong, "\n".join(wrong[:50])


@pytest.mark.fuzz
@pytest.mark.timeout(4 * 3600)
def test_ten_thousand_tickets(tmp_path: Path) -> None:
    began = time.monotonic()
    told = run_cases(tmp_path, SEEDS, [], WORKERS)
    counts: dict[str, Counter[bool]] = defaultdict(Counter)
    for one in told:
        counts[one["mutator"]][one["accepted"]] += 1
    print(f"\n{'mutator':32} {'accepted':>8} {'refused':>8}")  # noqa: T201, it is asked for
    for name in MUTATORS:
        print(f"{name:32} {counts[name][True]:8,} {counts[name][False]:8,}")  # noqa: T201
    print(f"{len(told):,} tickets in {(time.monotonic() - began) / 60:.0f} minutes")  # noqa: T201
    check(told)
    assert len(told) == SEEDS * len(MUTATORS) >= 10_000
    assert all(counts[name][True] for name in MUTATORS)
    assert all(counts[name][False] for name in MUTATORS.keys() - ALWAYS_ACCEPTED)


def test_tickets_that_once_failed(tmp_path: Path) -> None:
    """One case of each mutator, and every one in which something has been wrong."""
    kept = json.loads((SUPPORT / "fuzz_seeds.json").read_text())["cases"]
    told = run_cases(tmp_path, 1, [*kept, *(f"{name}:0" for name in MUTATORS)], 1)
    assert len(told) == len(kept) + len(MUTATORS)
    check(told)


# --- a Hub that lies ----------------------------------------------------------------------------

STATUSES = [301, 302, 304, 307, 400, 401, 403, 404, 408, 409, 410, 412, 416, 418, 429, 451]
STATUSES += [500, 501, 502, 503, 504, 507, 520, 599]
HEADERS = {
    "ETag": ["../../x", "/etc/passwd", '""', "W/", "a" * 5000, '"' + "0" * 64 + '"'],
    "Location": ["/", "file:///etc/passwd", "http://127.0.0.1:9/", "//", "javascript:1", "\x80"],
    "Content-Range": ["bytes 5-1/0", "x", "bytes 0-0/*", "bytes 99999999999-1/1"],
    "Content-Encoding": ["gzip", "br", "zstd", "identity", "x"],
    "Retry-After": ["-1", "1e9", "soon", "0", "2"],
    "X-Error-Message": ["[red]x[/red]", "a" * 5000, "=1+1"],
    "X-Error-Code": ["RepoNotFound", "GatedRepo", "EntryNotFound", "RevisionNotFound", "x"],
    "X-Repo-Commit": ["main", "../x", "a" * 40],
    "X-Linked-Size": ["0", "-1", "999999999999"],
    "Content-Type": ["text/html", "x"],
    "Link": ['<http://127.0.0.1:9/>; rel="next"', "x"],
}
WHERE = [
    ".*",
    "GET /api/.*",
    "GET /api/models/org/name",
    "GET .*tree.*",
    "GET .*json",
    "GET .*mask.*",
]
WHERE += ["GET .*head.*", "GET .*README.*", "GET /org/.*"]


def a_fault(rng: random.Random, answers: list[Any]) -> Fault:
    actions: list[int | str] = ["close", "silent", "truncate", "corrupt", "headers", "body"]
    action = rng.choice([*actions, rng.choice(STATUSES)])
    names = rng.sample(sorted(HEADERS), rng.randint(1, 3))
    headers = {name: rng.choice(HEADERS[name]) for name in names}
    body = rng.randbytes(rng.choice([0, 1, 100]))
    if rng.random() < 0.8:
        answer = json.loads(json.dumps(rng.choice(answers)))
        for _ in range(rng.randint(1, 2)):
            place = rng.choice(places(answer)[1:])
            try:
                at(answer, place[:-1])[place[-1]] = any_value(rng)
            except (KeyError, IndexError, TypeError):
                continue
        body = json.dumps(answer).encode()
    return Fault(rng.choice(WHERE), action, rng.choice([1, 1, 2, 10**9]), headers, body)


@pytest.mark.fuzz
@pytest.mark.timeout(4 * 3600)
def test_five_hundred_faults(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import close_session, constants

    for name in [name for name in os.environ if name.lower().endswith("_proxy")]:
        monkeypatch.delenv(name)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "token"))
    real_sleep = time.sleep
    monkeypatch.setattr(time, "sleep", lambda seconds: real_sleep(seconds / 500))
    close_session()
    small_ticket(mlm_head={"cls.bias": torch.ones(3)}).save_pretrained(tmp_path / "good")
    files = {path.name: path.read_bytes() for path in (tmp_path / "good").iterdir()}
    counts: Counter[str] = Counter()
    with running_hub(lfs=False) as hub:
        ask(hub.url, monkeypatch)
        for number in range(FAULTS):
            rng = random.Random(f"fault {number}")
            hub.lfs = rng.random() < 0.5
            sha = hub.add("org/name", dict(files))
            cache = tmp_path / f"cache-{number}"
            monkeypatch.setattr(constants, "HF_HUB_CACHE", str(cache))
            entry = {"type": "file", "path": "ticket.json", "size": 5, "oid": "0" * 40}
            entry["lfs"] = {"oid": "0" * 64, "size": 5, "pointerSize": 130}
            info = {"id": "org/name", "sha": sha, "private": False, "tags": ["x"], "siblings": []}
            faults = [a_fault(rng, [[entry] * 2, info]) for _ in range(rng.randint(1, 2))]
            hub.faults[:] = [dataclasses.replace(fault) for fault in faults]
            with at_most(100):
                began = time.monotonic()
                pulled = pulled_or_refused()
                if isinstance(pulled, Path):
                    counts["fetched"] += 1
                    assert same(pulled, files), (number, faults)
                else:
                    counts["refused"] += 1
                    assert pulled.isprintable(), (number, faults)
                    assert pulled_tickets() == {}, (number, faults)
                assert time.monotonic() - began < 60, (number, faults)
            hub.faults.clear()
            assert same(pull("org/name").path, files), (number, faults)  # nothing bad was kept
            left = {path.name for path in tmp_path.iterdir()} - {"good", cache.name}
            assert all(name.startswith("cache-") for name in left), (number, faults)
            assert not list(cache.rglob(".tamtctl-*")), (number, faults)
    print(f"\n{FAULTS} faults of the Hub: {dict(counts)}")  # noqa: T201
    assert counts["refused"] > 50
    assert counts["fetched"] > 50
    close_session()


def pulled_or_refused() -> Path | str:
    try:
        return pull("org/name").path
    except TamtctlError as error:
        return str(error)


def same(folder: Path, files: dict[str, bytes]) -> bool:
    return all((folder / name).read_bytes() == files[name] for name in SENT_AS_IS)


# --- names --------------------------------------------------------------------------------------


@pytest.mark.fuzz
@pytest.mark.timeout(4 * 3600)
def test_three_hundred_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from fuzz_tickets import command_code

    monkeypatch.chdir(tmp_path)
    tiny.save(tmp_path / "model", "bert")
    small_ticket().save_pretrained(tmp_path / "good")
    Path("text.txt").write_text("the file of the list\n" * 300)
    before = sorted(tmp_path.iterdir())
    for number in range(NAMES):
        rng = random.Random(f"name {number}")
        odd = rng.choice([*STRANGE, "\udc80", "a\udcffb", "nano-0.7\x1b[31m", "org/" + "x" * 200])
        name = rng.choice(
            [odd, f"org/{odd}", f"{odd}/name", f"org/name@{odd}", odd * 3, f"./{odd}"]
        )
        name = name.replace("\0", "") or "x"  # what no argument can hold
        if name.startswith("-"):
            name = f"x{name}"
        for arguments in (
            ("inspect", name),
            ("pull", name),
            ("push", "good", name, "--token", "hf_x"),
            ("evaluate", name, "--task", "mlm", "--corpus", "text.txt"),
            ("search", "--model", name, "--sparsity", "0.5", "--corpus", "text.txt", "--dry-run"),
            ("search", "--model", "model", "--sparsity", "0.5", "--corpus", name, "--dry-run"),
            ("import", name, "--model", "model", "--output-dir", "out"),
            ("compare", name),
            ("finetune", name, "--dense", "--model", "model", "--dry-run"),
        ):
            if os.path.isdir(name):  # noqa: PTH112, Path.is_dir raises for a name that is too long
                continue
            assert command_code(*arguments) in (1, 2), arguments
    assert sorted(path for path in tmp_path.iterdir() if path.name != "runs") == before
    print(f"\n{NAMES} names: each refused by all commands in one line")  # noqa: T201
