"""The report of a comparison: one HTML file, Markdown, CSV, JSON, and the figures as files."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tamtctl.comparison.found import Table
from tamtctl.comparison.rendering.markdown import markdown
from tamtctl.comparison.rendering.page import page
from tamtctl.comparison.rendering.plotting import render
from tamtctl.comparison.result import Comparison
from tamtctl.comparison.sections.table import in_order
from tamtctl.foundations import printable
from tamtctl.foundations.environment import env
from tamtctl.foundations.loss_units import MIN_SEQUENCES
from tamtctl.foundations.public_names import public, public_search
from tamtctl.tasks.kinds.metrics import MIN_EXAMPLES
from tamtctl.training.run_folder import write_json

REPORT, MARKDOWN, CSV, JSON, FIGURES = (
    "report.html",
    "report.md",
    "results.csv",
    "results.json",
    "figures",
)


def write_report(comparison: Comparison) -> None:
    """Write all files of the report into the comparison's folder."""
    folder = comparison.folder
    title, facts, sentences = _title(comparison), _facts(comparison), comparison.sentences
    first = first_tables(comparison)
    tables = [*_headed(comparison, "middle"), *_headed(comparison, "last")]
    figures = _figures(comparison)
    embedded = [(caption, light, dark) for caption, _, light, dark in figures]
    html = page(title, facts, first, sentences, embedded, tables)
    (folder / REPORT).write_text(html, encoding="utf-8")
    files = [(caption, file) for caption, file, _, _ in figures]
    text = markdown(title, facts, first, sentences, files, tables)
    (folder / MARKDOWN).write_text(text, encoding="utf-8")
    (folder / CSV).write_text(_csv(comparison), encoding="utf-8")
    write_json(folder / JSON, _published(comparison.to_dict()) | {"environment": _machine()})


def first_tables(comparison: Comparison) -> list[Table]:
    """Return the tables in front, which the terminal shows, too."""
    return [table for _, table in _headed(comparison, "first")]


def _headed(comparison: Comparison, place: str) -> list[tuple[str, Table]]:
    """Return headline and table of every section whose table stands in a place."""
    return [
        (section.title, table)
        for section, found in in_order(comparison.found)
        if section.place == place and (table := found.table())
    ]


def _figures(comparison: Comparison) -> list[tuple[str, str, bytes, bytes]]:
    """Write the figures; return caption, file, and SVG for light and for dark screens of each."""
    folder = comparison.folder / FIGURES
    folder.mkdir(exist_ok=True)
    drawn = []
    for section, found in in_order(comparison.found):
        if picture := found.picture():
            light = render(picture.draw, "svg")
            (folder / f"{section.file}.svg").write_bytes(light)
            (folder / f"{section.file}.png").write_bytes(render(picture.draw, "png"))
            dark = render(picture.draw, "svg", dark=True)
            drawn.append((picture.caption, f"{FIGURES}/{section.file}.png", light, dark))
    return drawn


def _title(comparison: Comparison) -> str:
    return f"Lottery tickets of {Path(comparison.model).name} compared"


def _facts(comparison: Comparison) -> list[str]:
    config = comparison.config
    facts = [
        f"Model {comparison.model}, held-out text: "
        f"{'; '.join(map(str, comparison.texts))}. Every subnetwork has the same masked tokens "
        "and the pre-trained head.",
        "Values are means ± standard deviations over seeds, where there are several. Intervals of "
        "losses are from a paired bootstrap over the sequences, those of scores over the dev "
        "examples: they say how another text would move a difference, not another seed. They need "
        f"{MIN_SEQUENCES} sequences, or {MIN_EXAMPLES} examples.",
    ]
    facts += [line for _, found in in_order(comparison.found) for line in found.preface()]
    if any(one.among for one in comparison.subnetworks):
        facts.append(
            "Tickets are compared where they keep as many weights in the same matrices, to within "
            "one weight a matrix; what a ticket does not mask stays dense. Their baselines mask "
            "the same matrices, with the same number of weights in each."
        )
    facts += [f"Note: {note}." for note in comparison.notes]
    if config.sparsities:
        facts.append(
            "Equal budget: mask training (TAMT) gets the "
            f"{'optimiser steps' if config.budget == 'steps' else 'seconds of training'} that "
            "iterative magnitude pruning (IMP) needs to reach the same sparsity."
        )
    facts += [f"Left out: {cell}: {why}" for cell, why in comparison.left_out.items()]
    return facts


def _published(values: dict[str, Any]) -> dict[str, Any]:
    """Return the values of a comparison without the paths of the machine that made it."""
    config = public_search(values["config"])
    config |= {"tickets": [public(name) for name in config["tickets"]]}
    for name in ("data_dir", "recipe"):
        if isinstance(config.get(name), str):
            config[name] = public(config[name])
    rows = [_row_without_place(row) for row in values["results"]]
    folder = _without_place(values["folder"])
    return values | {"config": config, "results": rows, "folder": folder}


def _row_without_place(row: Mapping[str, Any]) -> dict[str, Any]:
    ticket = row["ticket"]
    return {**row, "ticket": None if ticket is None else _without_place(ticket)}


def _without_place(path: str) -> str:
    """Return a path below the working directory as it is, of any other the last part."""
    return public(path) if Path(path).is_absolute() or ".." in Path(path).parts else path


def _machine() -> dict[str, str]:
    """Return what the numbers may depend on, but not where things lie."""
    facts = env()
    facts["python"] = facts["python"].partition(" (")[0]
    return {name: fact for name, fact in facts.items() if not name.endswith("cache")}


def _csv(comparison: Comparison) -> str:
    rows = [_csv_row(_row_without_place(one.row())) for one in comparison.subnetworks]
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return buffer.getvalue()


def _csv_row(row: Mapping[str, Any]) -> dict[str, Any]:
    return {
        printable.csv_cell(name): printable.csv_cell(value) if isinstance(value, str) else value
        for name, value in row.items()
    }
