"""``tamtctl list``: whole names, what each ticket is worth, and in which order."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from pathlib import Path

import pytest
from command_line import Run, runner
from rich.console import Console
from small_tickets import small_ticket

from tamtctl.cli.console import Output
from tamtctl.cli.views.listing import show_listing
from tamtctl.pruning.objectives import terms_of
from tamtctl.ticket.listing import Listing, list_tickets

LONG = f"runs/{'a-name-that-is-long-' * 5}/ticket"
OWN = {  # name → objective, held-out loss, date
    "runs/search-nano-0.8-tamt-kd-1a2b3c4d/ticket": ("kd", 0.141, "2026-03-02"),
    "runs/search-nano-0.8-tamt-mlm-1a2b3c4e/ticket": ("mlm", 4.995, "2026-03-03"),
    LONG: ("mlm", 3.2, "2001-01-01"),
    "runs/none/ticket": (None, None, "2026-03-01"),
}


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Run:
    """Run a command in a directory that holds tickets of several kinds."""
    monkeypatch.chdir(tmp_path)
    for name, (objective, loss, date) in OWN.items():
        unit = terms_of(objective or "mlm").unit
        metrics = {} if loss is None else {"losses": {"ticket": loss}, "unit": unit}
        ticket = small_ticket(objective=objective, metrics=metrics)
        replace(ticket, created=f"{date}T10:00:00+02:00").save_pretrained(name)
    return runner(monkeypatch, capsys)


def own(listing: Listing) -> list[str]:
    return [one.name for one in listing.tickets if one.kind == "run"]


def test_every_order(run: Run) -> None:
    kd, mlm, long, none = OWN
    assert own(list_tickets()) == [mlm, kd, none, long]
    assert own(list_tickets("name")) == sorted(OWN)
    assert own(list_tickets("loss")) == [kd, long, mlm, none]  # each unit by itself
    by_size = [one.bytes for one in list_tickets("size").tickets]
    assert by_size == sorted(by_size, reverse=True)
    by_sparsity = [one.sparsity for one in list_tickets("sparsity").tickets]
    assert by_sparsity == sorted(by_sparsity)
    refused = run("list", "--sort", "los")
    assert refused.code == 2
    assert "did you mean loss?" in refused.err


def test_what_a_script_gets(run: Run) -> None:
    Path("runs/broken/ticket").mkdir(parents=True)
    found = json.loads(run("list", "--json").out)
    (kd,) = (one for one in found["tickets"] if "tamt-kd" in one["name"])
    assert (kd["loss"], kd["unit"], kd["kind"]) == (0.141, "1 − cosine", "run")
    assert kd["created"] == "2026-03-02T10:00:00+02:00"
    (damaged,) = found["damaged"]
    assert damaged["name"] == "runs/broken/ticket"
    assert "has no ticket.json" in damaged["problem"]
    names = run("list", "-q").out.splitlines()
    assert set(OWN) <= set(names)
    assert "runs/broken/ticket" not in names


def test_a_pipe_gets_whole_lines_of_everything(run: Run) -> None:
    Path("runs/broken/ticket").mkdir(parents=True)
    done = run("list")
    lines = done.out.splitlines()
    for column in ("ticket", "loss", "sparsity", "date", "method", "size"):
        assert column in lines[0]
    (row,) = (line for line in lines if line.startswith(LONG))
    assert row.split()[1:6] == ["3.200", "nats", "0.619", "2001-01-01", "tamt-mlm"]
    (broken,) = (line for line in lines if line.startswith("damaged"))
    assert "runs/broken/ticket: has no ticket.json" in broken
    assert all(line.startswith(("ticket", "nano-", "runs/", "damaged")) for line in lines)
    assert done.err.splitlines()[-1].startswith("next     tamtctl inspect ")


@pytest.mark.parametrize("width", [60, 80, 114, 160])
def test_names_are_whole_on_every_screen(width: int, run: Run) -> None:
    output = Output()
    output.console = Console(file=io.StringIO(), width=width, force_terminal=True, no_color=True)
    output.is_wrapped, output.notes = True, output
    show_listing(output, list_tickets())
    text = output.console.file.getvalue()  # type: ignore[attr-defined]
    shown = text.replace("\x1b[1m", "").replace("\x1b[0m", "").splitlines()
    for name in OWN:
        assert any(name in line for line in shown)
    longest = [line for line in shown if len(line) > width]
    assert all(line.startswith((LONG, "next")) for line in longest)
    assert {"loss", "sparsity", "date"} <= set(shown[0].split())
    is_whole = "emb/layers" in shown[0].split()
    assert any("in a wider window" in line for line in shown) != is_whole
    assert is_whole or width != 114  # where the longest name, on its own line, takes no room


def test_an_empty_directory_is_told_where_to_begin(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path / "empty")
    assert "none under runs/ here; tamtctl search --sparsity 0.8 finds one" in run("list").err


@pytest.mark.parametrize("created", ["0001-01-01T00:00:00+23:59", "9999-12-31T23:59:00-23:59"])
def test_dates_at_the_end_of_the_calendar(run: Run, created: str) -> None:
    replace(small_ticket(), created=created).save_pretrained("runs/odd/ticket")
    assert created[:10] in run("list").out
