"""Names that the file system allows, however odd, of models and of texts."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
import tiny
from command_line import Run
from samples import ticket_for

from tamtctl.ticket.hub.card import card
from tamtctl.ticket.ticket import Ticket

NAMES = {
    "a non-breaking space": "a\u00a0b",
    "a newline": "a\nb",
    "a tab": "a\tb",
    "bytes that are no UTF-8": os.fsdecode(b"a\xffb"),
    "a dash before": "-a",
    "markup": "[red]a*b_c",
    "very long": "x" * 240,
    "white space around": " a ",
}


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("name", NAMES)
def test_an_odd_name_of_a_model_and_a_text(name: str, text_file: Path, run: Run) -> None:
    odd = NAMES[name]
    model, text = Path(odd), Path(odd + ".txt")
    tiny.save(Path("plain"), "bert").rename(model)
    text.write_bytes(text_file.read_bytes())
    search = ["search", "--recipe", "nano", "--sparsity", 0.5, "--method", "magnitude"]
    options = [*search, f"--model={model}", f"--corpus={text}", "--sequence-length", 16]
    done = run(*options, "--json")
    if name == "bytes that are no UTF-8":
        assert done.code == 1
        assert "has a name that is not UTF-8" in done.err
        assert not Path("runs").exists()
        model = model.rename("plain")
        options[7] = "--model=plain"
        done = run(*options, "--json")
    assert done.code == 0, done.err
    ticket = json.loads(done.out)["ticket"]
    assert len(os.fsencode(Path(ticket).parent.name)) <= 120
    assert Path(ticket).parent.name.isprintable()
    shown = run(*options)
    assert shown.code == 0, shown.err
    assert "done before" in shown.err
    assert run("inspect", ticket).code == 0
    found = run(
        "evaluate", ticket, f"--corpus={text}", "--sequence-length", 16, "--blocks", 8, "--json"
    )
    assert found.code == 0, found.err
    assert json.loads(found.out)["sequences_there"] > 8
    compared = run(
        "compare", ticket, *"--sequence-length 16 --blocks 8 --output-dir compared".split()
    )
    assert compared.code == 0, compared.err
    assert Path("compared/report.html").read_text(encoding="utf-8")
    card(Ticket.load(Path(ticket))).encode()


def test_odd_names_of_tickets_stand_in_one_report(text_file: Path, run: Run) -> None:
    tiny.save(Path("model"), "bert")
    names = [name for name in NAMES.values() if name.isascii() or name.isprintable()]
    for name in names:
        ticket_for(Path("model"), Path(name))
    options = ["--corpus", text_file, "--sequence-length", 16, "--blocks", 8, "--json"]
    done = run("compare", *options, "--output-dir", "compared", "--", *names)
    assert done.code == 0, done.err
    shown = [row["name"] for row in json.loads(done.out)["results"] if row["ticket"]]
    assert len(shown) == len(names)
    assert {"-a", "[red]a*b_c", " a "} < set(shown)
    assert len(list(Path("compared/figures").iterdir())) > 2
