"""Tickets whose record of the search and of what was measured is not as we write it, or lies."""

from __future__ import annotations

import csv
import html
import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
from command_line import Run
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt
from samples import ticket_for

from tamtctl.foundations.errors import TicketError
from tamtctl.ticket.hub.card import card
from tamtctl.ticket.listing import known_tickets
from tamtctl.ticket.measured import Measured
from tamtctl.ticket.ticket import Ticket

pytestmark = pytest.mark.usefixtures("working_folder")

FORGED = "x\nok      mask: verified\x1b[2K\u202e"
RECORDS: dict[str, tuple[Any, Any]] = {
    "empty": ({}, {}),
    "lists for objects": ({"corpus": {}, "sequence_length": []}, {"losses": [1], "flips": "x"}),
    "texts for numbers": (
        {"corpus": "c.txt", "sequence_length": "128", "text_column": 3, "held_out": 7},
        {"losses": {"ticket": "low", "dense": None}, "steps": "many", "sequences": "all"},
    ),
    "numbers out of all bounds": (
        {"sequence_length": 2**60, "corpus": [1, None]},
        {"losses": {"ticket": 1e300}, "flips": 1e9, "steps": -3, "trained_on": 5},
    ),
    "markup": (
        {FORGED: FORGED, "corpus": [FORGED, "a|b<script>"], "[red]": "![x](http://e.example)"},
        {"losses": {FORGED: 1.0, "ticket": 2.0}, "scores": {FORGED: {FORGED: 0.5}}, FORGED: FORGED},
    ),
    "deep": ({"a": {"b": {"c": {"d": [[[[1]]]]}}}}, {"scores": {"sst2": {"a": {"b": 1}}}}),
    "many": ({f"s{i}": i for i in range(5000)}, {"losses": {f"m{i}": 1.0 for i in range(5000)}}),
}


@pytest.fixture
def stranger(run: Run, tiny_model: Path, text_file: Path) -> Path:
    """A whole ticket at ``runs/theirs/ticket``, whose free values a test may change."""
    shutil.copytree(tiny_model, "m")
    shutil.copy(text_file, "c.txt")
    folder = Path("runs/theirs/ticket")
    folder.parent.mkdir(parents=True)
    ticket_for(Path("m"), folder)
    return folder


def rewrite(ticket: Path, search: Any, metrics: Any) -> None:
    file = ticket / "ticket.json"
    values = json.loads(file.read_text()) | {"search": search, "metrics": metrics}
    file.write_text(json.dumps(values))


def check_plain(text: str) -> None:
    assert all(line.isprintable() for line in text.splitlines())
    assert "\nok      mask: verified" not in text


@pytest.mark.parametrize("record", RECORDS)
def test_no_command_fails_or_lies_because_of_them(record: str, run: Run, stranger: Path) -> None:
    search, metrics = RECORDS[record]
    rewrite(stranger, search, metrics)
    where = ["--corpus", "c.txt", "--model", "m", "--sequence-length", 16, "--device", "cpu"]
    commands: dict[str, list[object]] = {
        "inspect": ["inspect", stranger],
        "two": ["inspect", stranger, stranger],
        "list": ["list"],
        "evaluate": ["evaluate", stranger, "--task", "mlm", *where],
        "compare": ["compare", stranger, *where, "--blocks", 8],
        "re-encode": ["import", stranger, "--output-dir", "again", "--encoding", "zstd"],
    }
    for name, command in commands.items():
        done = run(*command)
        assert done.code == 0, (name, done.err)
        check_plain(done.out + done.err)
        assert str(stranger) in done.out or name not in ("inspect", "list")
        machine = run(*command, "--json") if name in ("inspect", "list") else None
        assert machine is None or json.loads(machine.out)
    text = card(Ticket.load(stranger), repo="me/ticket")
    check_plain(text)
    page = MarkdownIt("commonmark").enable("table").render(text.split("---\n", 2)[2])
    assert not re.search(r"<(a|img|script)\b", page)
    assert len(text) < 100_000


def test_a_name_is_text_in_every_file_of_a_report(run: Run, stranger: Path) -> None:
    name = "=1+1 <img src=x> $\\frac$ |`a`[l](http:x) *b* ~c~"
    stranger.rename(name)
    where = ["--corpus", "c.txt", "--model", "m", "--sequence-length", 16, "--device", "cpu"]
    done = run("compare", name, *where, "--output-dir", "report")
    assert done.code == 0, done.err
    assert name in done.out
    page = Path("report/report.html").read_text()
    assert html.escape(name) in page
    assert "<img src=x" not in page
    text = MarkdownIt("commonmark").enable("table").render(Path("report/report.md").read_text())
    assert f"<td>{html.escape(name)}</td>" in text
    assert not re.search(r"<(a|code|em|del|img src=.x)\b", text)
    with Path("report/results.csv").open() as file:
        assert not any(cell.startswith("=") for row in csv.reader(file) for cell in row)


BOMB = "a: &a [x]\n" + "".join(
    f"{chr(97 + i)}: &{chr(97 + i)} [{', '.join(['*' + chr(96 + i)] * 9)}]\n" for i in range(1, 20)
)


@pytest.mark.parametrize("metadata", [BOMB, "a: " + "[" * 50_000, "!!python/object:os.system {}"])
def test_metadata_of_a_card_that_unfold_or_run_are_refused(
    metadata: str, nano_ticket: Ticket
) -> None:
    with pytest.raises(TicketError, match="metadata of the existing README"):
        card(nano_ticket, repo="me/x", existing=f"---\n{metadata}\n---\n\n# Theirs\n")


plain = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63) | st.floats(allow_nan=False)
    | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=9), inner),
    max_leaves=12,
)  # fmt: skip
names = st.sampled_from(
    "losses standard_errors check_losses scores steps flips sequences sequences_there changed unit "
    "trained_on corpus held_out check_corpus sequence_length text_column model".split()
)


@settings(max_examples=200, deadline=None, suppress_health_check=list(HealthCheck))
@given(search=st.dictionaries(names, plain), metrics=st.dictionaries(names, plain))
def test_whatever_is_said_is_read_into_types(
    search: dict[str, Any], metrics: dict[str, Any], nano_ticket: Ticket
) -> None:
    from dataclasses import replace

    ticket = replace(nano_ticket, search=search, metrics=metrics)
    measured = Measured.of(ticket)
    assert all(type(loss) is float for loss in measured.losses.values())
    assert measured.text is None or measured.text.isprintable()
    check_plain(card(ticket, repo="me/ticket"))


@pytest.fixture(scope="module")
def nano_ticket() -> Ticket:
    return Ticket.from_pretrained("nano-0.7")


def test_a_broken_ticket_hides_no_other_one(run: Run, stranger: Path) -> None:
    for name, content in {
        "nothing": b"",
        "no-json": b"\xff\xfe",
        "deep": b"[" * 100_000,
        "wrong": b'{"format_version": 1}',
    }.items():
        folder = Path("runs", name, "ticket")
        folder.mkdir(parents=True)
        (folder / "ticket.json").write_bytes(content)
    Path("runs/folder/ticket/ticket.json").mkdir(parents=True)
    Path("runs/link").symlink_to("link")
    names = [ticket.name for ticket in known_tickets()]
    assert str(stranger) in names
    assert {"nano-0.7", "nano-0.8"} <= set(names)
    assert run("list").code == 0
