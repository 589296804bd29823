"""What is kept besides runs: how large it is, and clearing it without harm to anybody."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from command_line import Run
from huggingface_hub import constants
from small_tickets import small_ticket

import tamtctl
from tamtctl.foundations.cache import CACHES, cache_in_use
from tamtctl.foundations.errors import TamtctlError, UsageError
from tamtctl.foundations.working import watched

COMMIT = "a" * 40
ONE, OTHER, LINK = (digit * 64 for digit in "0ef")  # digests, as all names in a cache are


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache that holds something of every kind, and what is not ours."""
    folder = tmp_path / "cache"
    monkeypatch.setenv("TAMTCTL_CACHE", str(folder))
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    for size, name in enumerate(CACHES, 1):
        (folder / name / ONE).mkdir(parents=True)
        (folder / name / ONE / "file").write_bytes(b"x" * size)
        (folder / name / OTHER).write_bytes(b"x" * 100)
    (folder / "of-somebody-else").write_text("kept")
    return folder


def put_in_hub(folder: Path, repo: str, **files: str) -> Path:
    """Fetch a repository with a ticket, as the Hub's client would lay it down."""
    storage = folder / f"models--{repo.replace('/', '--')}"
    snapshot = storage / "snapshots" / COMMIT
    small_ticket().save_pretrained(snapshot)
    for name, text in files.items():
        (snapshot / name).write_text(text)
    (storage / "refs").mkdir()
    (storage / "refs" / "main").write_text(COMMIT)
    return storage


def test_sizes_are_those_of_the_files(cache: Path) -> None:
    found = {one.name: one for one in tamtctl.cache_contents().caches}
    assert [*found] == [*CACHES, "tickets"]
    for size, name in enumerate(CACHES, 1):
        assert (found[name].files, found[name].bytes) == (2, 100 + size)
        assert found[name].folder == cache / name
    assert found["tickets"].files == 0


def test_what_is_named_is_cleared_and_nothing_else(cache: Path) -> None:
    would = tamtctl.clear_cache(["statistics", "losses"], dry_run=True)
    assert not would.cleared
    assert (cache / "statistics" / ONE / "file").exists()
    done = tamtctl.clear_cache(["statistics", "losses"])
    assert done.cleared
    assert done.bytes == would.bytes == 2 * 100 + 2 + 3
    assert {path.name for path in cache.iterdir()} >= {"corpora", "digests", "of-somebody-else"}
    assert not (cache / "statistics").exists()
    assert tamtctl.clear_cache().cleared
    left = {path.name for path in cache.iterdir()}
    assert left == {"of-somebody-else", ".in-use"}
    assert not tamtctl.clear_cache().cleared  # there is nothing
    with pytest.raises(UsageError, match="did you mean losses"):
        tamtctl.clear_cache("loses")


def test_a_folder_in_which_another_program_writes_stays(cache: Path) -> None:
    (cache / "scores" / "my-results.csv").write_text("precious")
    done = tamtctl.clear_cache()
    assert (cache / "scores" / "my-results.csv").read_text() == "precious"
    assert f"{cache / 'scores'} holds more than a cache, and stays" in done.notes
    assert not (cache / "losses").exists()


def test_links_are_not_followed(cache: Path, tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    precious.mkdir()
    (precious / "file").write_bytes(b"x" * 10**6)
    for link in (cache / "losses" / LINK, cache / "losses" / ONE / "link"):
        link.symlink_to(precious)
    (cache / "digests" / LINK).symlink_to(precious / "file")
    subprocess.run(["rm", "-r", cache / "corpora"], check=True)
    (cache / "corpora").symlink_to(precious)
    assert sum(one.bytes for one in tamtctl.cache_contents().caches) < 10**5
    done = tamtctl.clear_cache()
    assert "corpora is a link, which is not followed" in done.notes[0]
    assert (precious / "file").stat().st_size == 10**6
    assert not (cache / "losses").exists()
    assert (cache / "corpora").is_symlink()


def test_pulled_tickets_go_only_when_they_are_named(cache: Path, tmp_path: Path) -> None:
    ticket = put_in_hub(tmp_path / "hub", "org/ticket")
    mixed = put_in_hub(tmp_path / "hub", "org/mixed", **{"model.safetensors": "weights"})
    (tmp_path / "hub" / "models--org--model").mkdir()
    assert tamtctl.clear_cache().cleared
    assert ticket.is_dir()
    found = {one.name: one for one in tamtctl.cache_contents().caches}["tickets"]
    assert found.bytes == sum(f.stat().st_size for f in ticket.rglob("*") if f.is_file())
    done = tamtctl.clear_cache("tickets")
    assert not ticket.exists()
    assert mixed.is_dir()
    assert "holds more than tickets, and stays" in done.notes[0]
    assert (tmp_path / "hub" / "models--org--model").is_dir()


WORKING = """
import sys
from tamtctl.foundations.cache import cache_in_use
with cache_in_use():
    print("at work", flush=True)
    sys.stdin.readline()
"""


@pytest.mark.skipif(sys.platform == "win32", reason="there are no such locks")
def test_nothing_is_cleared_while_anybody_works(cache: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", WORKING],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=os.environ,
    ) as working:  # fmt: skip
        assert working.stdout
        assert working.stdin
        assert working.stdout.readline() == "at work\n"
        with cache_in_use():  # several may be at work
            pass
        with pytest.raises(TamtctlError, match="another tamtctl is at work"):
            tamtctl.clear_cache()
        assert tamtctl.clear_cache(dry_run=True).bytes > 0
        assert (cache / "losses" / OTHER).exists()
        working.stdin.write("\n")
        working.stdin.flush()
        assert working.wait() == 0
    assert tamtctl.clear_cache().cleared


def test_every_call_that_takes_long_holds_the_cache(cache: Path) -> None:
    @watched(object)
    def call(*, watcher: object = None) -> None:
        with pytest.raises(TamtctlError, match="another tamtctl is at work"):
            tamtctl.clear_cache()

    call()
    assert tamtctl.clear_cache().cleared


def test_a_cache_that_cannot_be_written_stops_nobody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("TAMTCTL_CACHE", str(tmp_path / "file" / "cache"))
    with cache_in_use():
        pass
    assert tamtctl.cache_contents().bytes == 0


def test_the_command(cache: Path, run: Run) -> None:
    shown = run("cache")
    assert shown.code == 0, shown.err
    assert "corpora" in shown.out
    assert "tickets" in shown.out
    told = json.loads(run("cache", "clear", "losses", "--dry-run", "--json").out)
    assert [one["name"] for one in told["caches"]] == ["losses"]
    assert not told["cleared"]
    assert "nothing was removed" in run("cache", "clear", "losses", "--dry-run").out
    assert "cleared" in run("cache", "clear", "losses").out
    assert not (cache / "losses").exists()
    assert run("cache", "empty").code == 2
    assert run("cache", "--dry-run").code == 2
    assert run("cache", "clear", "loses").code == 2
