"""Results at a prompt and in a notebook: what the command line says, on one screen, as text."""

from __future__ import annotations

import importlib
import pkgutil
import re
import subprocess
import sys
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest
from command_line import Run
from small_search import small_config

import tamtctl
from tamtctl.cli.notebook import SHOWS, view_of
from tamtctl.foundations.shown import Shown
from tamtctl.pruning.config import SearchConfig
from tamtctl.pruning.searching.api import search
from tamtctl.tasks.evaluation.api import evaluate
from tamtctl.tasks.evaluation.config import EvaluateConfig
from tamtctl.tasks.evaluation.result import Evaluation, Labelled
from tamtctl.ticket.exporting.result import Exported
from tamtctl.ticket.inspection import compare_masks, inspect_ticket
from tamtctl.ticket.listing import list_tickets
from tamtctl.ticket.local_names import packaged_folder
from tamtctl.ticket.stored import StoredTicket
from tamtctl.ticket.ticket import Ticket
from tamtctl.training.loggers import LOGGERS

pytestmark = pytest.mark.usefixtures("working_folder")

HOSTILE = "<script>alert(1)</script>\x1b[31m\u202e[bold]"


class Cells(HTMLParser):
    """The texts of a page, and its tags."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.texts: list[str] = []
        self.tags: set[str] = set()
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: object) -> None:
        self.tags.add(tag)

    def handle_data(self, data: str) -> None:
        if data.strip():
            self.texts.append(data.strip())


def check_screen(shown: object) -> str:
    lines = repr(shown).splitlines()
    assert lines[0] == type(shown).__name__
    assert len(lines) <= 24
    assert max(map(len, lines)) <= 100
    assert "tensor(" not in repr(shown)
    return repr(shown)


# Those that start a program, or need what is not always installed.
NOT_IMPORTED = ("__main__", "gpu_selection", *(f"{name}_log" for name in LOGGERS))


def kinds_below(kind: type) -> set[type]:
    below: set[type] = set(kind.__subclasses__())
    return below.union(*map(kinds_below, below))


def test_every_result_has_its_view() -> None:
    for module in pkgutil.walk_packages(tamtctl.__path__, "tamtctl."):
        if not module.name.endswith(NOT_IMPORTED):
            importlib.import_module(module.name)
    # `Exported` is only what the results of both exports have in common.
    kinds = kinds_below(Shown) - {Exported}
    assert set(SHOWS) <= {kind.__name__ for kind in kinds}
    for module_name, function in map(view_of, kinds):
        assert callable(getattr(importlib.import_module(f"tamtctl.{module_name}"), function))


def test_a_class_without_a_view_shows_itself_as_its_base() -> None:
    stored = StoredTicket.load(packaged_folder() / "nano-0.7")
    ticket = Ticket.load(packaged_folder() / "nano-0.7")
    assert repr(stored).splitlines() == ["StoredTicket", *repr(ticket).splitlines()[1:]]


def test_a_search_shows_what_the_command_line_prints(
    tiny_model: Path, text_file: Path, run: Run
) -> None:
    config: SearchConfig = small_config(tiny_model, text_file, steps=12, evaluation_blocks=16)
    result = search(config, output_dir="run")
    shown = check_screen(result)
    cells = Cells(result._repr_html_())
    for name, loss in result.losses.items():
        row = [name, f"{loss:.3f}", f"{result.standard_errors[name]:.3f}"]
        at = cells.texts.index(name)
        assert cells.texts[at : at + 3] == row
        assert re.search(" +│ +".join(map(re.escape, row)), shown)
    assert "± s.e." in cells.texts
    assert any("nats per masked token" in text for text in cells.texts)
    assert "tamtctl inspect" not in shown  # which is for a shell
    assert cells.tags <= {"div", "table", "thead", "tbody", "tr", "th", "td", "caption"}

    found = evaluate(EvaluateConfig(name="run/ticket", corpus=config.corpus, sequence_length=16))
    printed = run("evaluate", "run/ticket", "--corpus", text_file, "--sequence-length", 16).out
    assert isinstance(found, Evaluation)
    (loss_line,) = (line for line in printed.splitlines() if line.startswith("mlm"))
    value = loss_line.split(maxsplit=1)[1]
    assert value in Cells(found._repr_html_()).texts
    assert value in check_screen(found)


def test_a_ticket_is_one_screen_without_its_tensors(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")  # as the kernel of a notebook does
    ticket = Ticket.load(packaged_folder() / "nano-0.7")
    shown = check_screen(ticket)
    assert "nano" in shown
    assert "0.7" in shown
    assert ticket.base_model.fingerprint[:12] in ticket._repr_html_()
    check_screen(inspect_ticket("nano-0.7"))
    comparison = compare_masks(["nano-0.7", "nano-0.8"])
    check_screen(comparison)
    jaccard = f"{comparison.similarities[0].average.jaccard:.4f}"
    assert any(jaccard in text for text in Cells(comparison._repr_html_()).texts)
    assert "nano-0.7" in check_screen(list_tickets())
    for shown_there in (ticket, comparison, list_tickets()):
        assert "\x1b" not in repr(shown_there)
        assert "x1b" not in shown_there._repr_html_()


def test_text_of_strangers_is_text() -> None:
    ticket = Ticket.load(packaged_folder() / "nano-0.7")
    hostile = replace(ticket, method=HOSTILE, base_model=replace(ticket.base_model, id=HOSTILE))
    many: list[tuple[str, ...]] = [(HOSTILE,)] * 1000
    labelled = Labelled(HOSTILE, many, [HOSTILE] * 1000, [None] * 1000, notes=(HOSTILE,))
    for shown in (hostile, labelled):
        html = shown._repr_html_()
        assert "script" not in Cells(html).tags
        assert "&lt;script&gt;" in html
        assert len(html) < 20_000
        for text in (html, check_screen(shown)):
            assert not re.search("[\x00-\x08\x0b-\x1f\u202e]", text)


def test_a_look_at_a_result_draws_no_random_numbers() -> None:
    script = """
import random, tamtctl
ticket = tamtctl.Ticket.from_pretrained("nano-0.7")
state = random.getstate()
assert "rich" not in __import__("sys").modules
repr(ticket)
assert random.getstate() == state
"""
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
