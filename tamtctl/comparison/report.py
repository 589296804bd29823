"""The report of a comparison: one HTML file, Markdown, LaTeX, CSV, JSON, and figures as files."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tamtctl.comparison.config import CompareConfig
from tamtctl.comparison.found import Table
from tamtctl.comparison.rendering.latex import latex
from tamtctl.comparison.rendering.markdown import markdown
from tamtctl.comparison.rendering.page import Drawing, Report, page
from tamtctl.comparison.rendering.plotting import on_dark, render
from tamtctl.comparison.result import Comparison
from tamtctl.comparison.sections.table import in_order
from tamtctl.foundations import printable
from tamtctl.foundations.environment import published_env
from tamtctl.foundations.files import write_whole
from tamtctl.foundations.measured_text import MIN_SEQUENCES
from tamtctl.foundations.public_names import public, public_search
from tamtctl.tasks.kinds.metrics import MIN_EXAMPLES
from tamtctl.training.run_folder import write_json

REPORT, MARKDOWN, LATEX, CSV, JSON, FIGURES = (
    "report.html",
    "report.md",
    "results.tex",
    "results.csv",
    "results.json",
    "figures",
)

# Settings that are paths, besides those of a search; "name" is that of a recipe file.
_FILES = ("data_dir", "recipe", "name", "train", "dev", "queries", "passages", "relevant")


def write_report(comparison: Comparison) -> None:
    """Write all files of the report into the comparison's folder."""
    folder = comparison.folder
    sections = in_order(comparison.found)
    report = Report(
        title=_title(comparison),
        about=_about(comparison),
        lead=" ".join(line for _, found in sections for line in found.lead()),
        notes=_notes(comparison),
        figures=_figures(comparison),
        first=first_tables(comparison),
        sentences=comparison.sentences,
        tables=[*_headed(comparison, "middle"), *_headed(comparison, "last")],
        facts=_facts(comparison),
    )
    table = latex(report.first[0], caption(comparison), "tab:lottery-tickets")
    for name, text in (
        (REPORT, page(report)),
        (MARKDOWN, markdown(report)),
        (CSV, _csv(comparison)),
        (LATEX, table),
    ):
        write_whole(folder / name, text.encode())
    write_json(folder / JSON, _published(comparison.to_dict()) | {"environment": published_env()})


def first_tables(comparison: Comparison) -> list[Table]:
    """Return the tables at the top of the report, which the terminal shows, too."""
    return [table for _, table in _headed(comparison, "first")]


def _headed(comparison: Comparison, place: str) -> list[tuple[str, Table]]:
    """Return headline and table of every section whose table belongs at a place."""
    return [
        (section.title, table)
        for section, found in in_order(comparison.found)
        if section.place == place and (table := found.table())
    ]


def _figures(comparison: Comparison) -> list[Drawing]:
    """Write the files of the figures, and return the figures in all forms that pages use."""
    folder = comparison.folder / FIGURES
    folder.mkdir(exist_ok=True)
    drawn = []
    for section, found in in_order(comparison.found):
        if picture := found.picture():
            wide, pixels = render(picture.draw, "svg", "png")
            (narrow,) = render(picture.draw, "svg", narrow=True)
            (folder / f"{section.file}.svg").write_bytes(wide)
            (folder / f"{section.file}.png").write_bytes(pixels)
            file = f"{FIGURES}/{section.file}.png"
            forms = (wide, on_dark(wide), narrow, on_dark(narrow))
            drawn.append(Drawing(picture.caption, file, *forms))
    return drawn


def _title(comparison: Comparison) -> str:
    return f"Lottery tickets of {Path(comparison.model).name} compared"


def _about(comparison: Comparison) -> str:
    return (
        f"Model {comparison.model}, held-out text: {'; '.join(map(str, comparison.texts))}. Every "
        "subnetwork has the same masked tokens and the pre-trained head."
    )


def _notes(comparison: Comparison) -> list[str]:
    return [
        *(f"Note: {note}" if note.endswith("?") else f"Note: {note}." for note in comparison.notes),
        *(f"Left out: {cell}: {why}" for cell, why in comparison.left_out.items()),
    ]


def _facts(comparison: Comparison) -> list[str]:
    """Return sentences on how to read the numbers."""
    config = comparison.config
    facts = [
        "Values are means ± standard deviations over seeds, where there are several; of a "
        "fine-tuned score, over every seed of fine-tuning of every mask, alike. Intervals of "
        "losses are from a paired bootstrap over the sequences, those of scores over the dev "
        "examples, or over groups of them where queries have groups: they say how another text "
        f"would move a difference, not another seed. They need {MIN_SEQUENCES} sequences, or "
        f"{MIN_EXAMPLES} examples or groups."
    ]
    facts += [line for _, found in in_order(comparison.found) for line in found.preface()]
    if any(one.among for one in comparison.subnetworks):
        facts.append(
            "Tickets are compared where they keep as many weights in the same matrices, to within "
            "one weight a matrix; what a ticket does not mask stays dense. Their baselines mask "
            "the same matrices, with the same number of weights in each."
        )
    if config.sparsities:
        facts.append(_equal_budget(config))
    return facts


def _equal_budget(config: CompareConfig) -> str:
    what = "optimiser steps" if config.budget == "steps" else "seconds of training"
    return (
        f"Equal budget: mask training (TAMT) gets the {what} that iterative magnitude pruning "
        "(IMP) needs to reach the same sparsity."
    )


def caption(comparison: Comparison) -> str:
    """Return the caption of the table in a paper: what was measured, on what, and how."""
    seeds = [len(group) for group in comparison.groups.values()]
    told = [
        f"Held-out losses of sparse subnetworks of {comparison.model}, lower is better, measured "
        f"on {'; '.join(map(str, comparison.texts))}, with the pre-trained head and the same "
        "masked tokens for all.",
        "The sparsity is the share of zeros in the matrices that are masked"
        + (", the same in each." if not any(o.among for o in comparison.subnetworks) else "."),
    ]
    if max(seeds) > 1:
        told.append(
            "Mean ± standard deviation over the seeds of a method, where it has several; of a "
            "fine-tuned score, over every seed of fine-tuning of every mask."
        )
    if comparison.config.sparsities:
        told.append(_equal_budget(comparison.config))
    if any(one.steps and not one.is_one_shot for one in comparison.subnetworks):
        told.append(
            "Mask flipped: the share of the mask that differs from that of magnitude; steps: "
            "optimiser steps."
        )
    return " ".join(told)


def _published(values: dict[str, Any]) -> dict[str, Any]:
    """Return the values of a comparison without the paths of the machine that made it."""
    config = _without_paths(values["config"])
    config |= {"tickets": [public(name) for name in config["tickets"]]}
    rows = [_row_without_place(row) for row in values["results"]]
    folder = _without_place(values["folder"])
    return values | {"config": config, "results": rows, "folder": folder}


def _without_paths(settings: dict[str, Any]) -> dict[str, Any]:
    """Return settings with names instead of paths, those of a recipe among them."""
    inner = {n: _without_paths(v) for n, v in settings.items() if isinstance(v, dict)}
    files = {n: public(settings[n]) for n in _FILES if isinstance(settings.get(n), str)}
    return public_search(settings) | inner | files


def _row_without_place(row: Mapping[str, Any]) -> dict[str, Any]:
    ticket = row["ticket"]
    return {**row, "ticket": None if ticket is None else _without_place(ticket)}


def _without_place(path: str) -> str:
    """Return a path below the working directory unchanged; of any other, its last part."""
    return public(path) if Path(path).is_absolute() or ".." in Path(path).parts else path


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
