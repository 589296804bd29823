"""The report of a comparison: one HTML file, Markdown, CSV, JSON, and the figures as files."""

from __future__ import annotations

import base64
import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tamtctl.comparison.intervals import MIN_METHODS, thousandths, too_few
from tamtctl.comparison.measures import heading as heading_of
from tamtctl.comparison.measures import words
from tamtctl.comparison.rendering.plotting import figures_of, render
from tamtctl.comparison.subnetworks import DENSE
from tamtctl.foundations import printable
from tamtctl.foundations.environment import environment
from tamtctl.foundations.loss_units import MIN_SEQUENCES
from tamtctl.foundations.public_names import public, public_search
from tamtctl.pruning.methods import ONE_SHOT
from tamtctl.tasks.kinds.metrics import MIN_EXAMPLES
from tamtctl.training.run_folder import write_json

if TYPE_CHECKING:
    from tamtctl.comparison.result import Comparison

REPORT, MARKDOWN, CSV, JSON, FIGURES = (
    "report.html",
    "report.md",
    "results.csv",
    "results.json",
    "figures",
)
Table = tuple[list[str], list[list[str]]]  # heading and rows


def write_report(comparison: Comparison) -> None:
    """Write all files of the report into the comparison's folder."""
    folder = comparison.folder
    (folder / FIGURES).mkdir(exist_ok=True)
    figures = figures_of(comparison)
    pictures = {}
    for name, (caption, draw) in figures.items():
        light = render(draw, "svg")
        (folder / FIGURES / f"{name}.svg").write_bytes(light)
        (folder / FIGURES / f"{name}.png").write_bytes(render(draw, "png"))
        pictures[caption] = (light, render(draw, "svg", dark=True))
    (folder / REPORT).write_text(_html(comparison, pictures), encoding="utf-8")
    captions = {name: caption for name, (caption, _) in figures.items()}
    (folder / MARKDOWN).write_text(_markdown(comparison, captions), encoding="utf-8")
    (folder / CSV).write_text(_csv(comparison), encoding="utf-8")
    write_json(folder / JSON, _published(comparison.to_dict()) | {"environment": _machine()})


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
    facts = environment()
    facts["python"] = facts["python"].partition(" (")[0]
    return {name: fact for name, fact in facts.items() if not name.endswith("cache")}


def summary(comparison: Comparison) -> Table:
    """Return the table of the results: a row for every method and level, in one fixed order.

    That is by level, and within one as asked for: the methods of ``--methods``, or the baselines
    and then the tickets.
    """
    measures, tasks = comparison.measures, comparison.config.tasks
    first = comparison.subnetworks[0]
    heading = ["sparsity", "method", *map(heading_of, measures)]
    heading += [f"{task} ({first.scores[task].label})" for task in tasks]
    heading += ["mask flipped", "steps"]
    rows = []
    for (method, level), group in sorted(
        comparison.groups.items(), key=lambda item: (item[0][0] != DENSE, item[0][1])
    ):
        one = group[0]
        row = ["–" if method == DENSE else str(level), one.label]
        row += [str(comparison.spread(group, measure)) for measure in measures]
        row += [str(comparison.score(group, task)) for task in tasks]
        is_one_shot = not one.is_given and method in ONE_SHOT
        row.append("–" if is_one_shot else _flipped([o.flips["all"] for o in group if o.flips]))
        row.append("–" if not one.steps else f"{one.steps:,}")
        rows.append(row)
    return heading, rows


def _flipped(shares: Sequence[float]) -> str:
    """Return the mean share of flipped bits; none at all is another thing than few."""
    if not shares:
        return "–"
    mean = sum(shares) / len(shares)
    return "none" if not any(shares) else f"{mean:.1%}" if mean >= 0.0005 else "< 0.1%"


def _differences(comparison: Comparison) -> Table:
    heading = ["sparsity", "measure", "a", "b", "a − b", "95 % interval"]
    rows = []
    for one in comparison.differences:
        interval = "identical masks" if one.are_identical else one.interval.brackets
        value = thousandths(one.interval.value)
        rows.append([str(one.level), words(one.measure), one.a, one.b, value, interval])
    return heading, rows


def _correlations(comparison: Comparison) -> Table:
    """Return the rank correlations within each sparsity, their mean, and what pooling gives."""
    rows = []
    for task, by_measure in comparison.correlations.items():
        for measure, found in by_measure.items():
            about = [task, words(measure)]
            for level, rho in found.within.items():
                methods = f"{found.methods[level]} methods"
                value = f"{rho:.3f}" if rho is not None else _why_no_rank(found.methods[level])
                rows.append([*about, f"within {level}", methods, value, "–"])
            mean = found.mean
            value = f"{mean.value:.3f}" if mean else "–"
            sure = mean.brackets if mean else found.why_none
            rows.append([*about, "mean of those within", "", value, sure])
            pooled = "–" if found.pooled is None else f"{found.pooled:.3f}"
            rows.append([*about, "pooled over sparsities", "", pooled, "no evidence, see above"])
    return ["task", "loss", "rank correlation", "", "value", "95 % interval"], rows


def _why_no_rank(methods: int) -> str:
    return too_few(methods, MIN_METHODS, "method") if methods < MIN_METHODS else "all are alike"


def _derived(comparison: Comparison) -> Table:
    heading = "method,seed,loss,searched at,ticket at,its loss,cost,95 % interval".split(",")
    rows = []
    for one in comparison.derived:
        cost, seed = one.cost, "–" if one.seed is None else str(one.seed)
        row = [one.method, seed, one.term, f"{one.searched:g}", f"{one.sparsity:g}"]
        row += [f"{one.loss:.3f}", f"{cost.value:+.3f}", cost.brackets]
        rows.append(row)
    return heading, rows


def _tables(comparison: Comparison) -> Iterator[tuple[str, Table, int]]:
    """Yield headline, table and how many of its columns are words, of what there is."""
    if comparison.correlations:
        yield "Does the loss foretell the score?", _correlations(comparison), 4
    if comparison.derived:
        yield "One search for many sparsities: its cost against their own", _derived(comparison), 3
    yield "Every difference", _differences(comparison), 4


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
    if comparison.correlations:
        facts.append(
            "Whether a loss foretells a score is a question for each sparsity: over several of "
            "them, the two go together for any methods, since more sparsity makes every loss "
            "higher and every score worse. Intervals of rank correlations are from a bootstrap "
            "over methods, each with all of its sparsities."
        )
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


# --- Markdown --------------------------------------------------------------------------------


def _markdown(comparison: Comparison, captions: Mapping[str, str]) -> str:
    text = printable.markdown
    parts = [f"# {text(_title(comparison))}", *map(text, _facts(comparison))]
    parts.append(_pipes(summary(comparison)))
    parts.append("\n".join(f"- {text(sentence)}" for sentence in comparison.sentences))
    for name, caption in captions.items():
        parts.append(f"![{text(caption)}]({FIGURES}/{name}.png)\n\n{text(caption)}")
    parts += [f"## {title}\n\n{_pipes(table)}" for title, table, _ in _tables(comparison)]
    return "\n\n".join(part for part in parts if part) + "\n"


def _pipes(table: Table) -> str:
    heading, rows = table
    escaped = [list(map(printable.markdown, line)) for line in (heading, *rows)]
    escaped.insert(1, ["---"] * len(heading))
    return "\n".join(f"| {' | '.join(line)} |" for line in escaped)


def _title(comparison: Comparison) -> str:
    return f"Lottery tickets of {Path(comparison.model).name} compared"


# --- HTML ------------------------------------------------------------------------------------

_STYLE = """
:root { color-scheme: light dark; --ink: #1f2328; --paper: #fff; --rule: #d0d7de; --soft: #59636e }
@media screen and (prefers-color-scheme: dark) {
  :root { --ink: #e6edf3; --paper: #0d1117; --rule: #30363d; --soft: #9198a1 }
}
body { font: 16px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--paper);
  max-width: 62rem; margin: 2rem auto; padding: 0 1rem }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; margin: 1rem 0 }
th, td { text-align: right; padding: .3rem .8rem; border-bottom: 1px solid var(--rule) }
th { border-bottom: 2px solid var(--rule) }
.wide { overflow-x: auto }
.words { text-align: left }
figure { margin: 2rem 0; break-inside: avoid }
figure img { width: 100%; height: auto }
figcaption, .facts { color: var(--soft); font-size: .9rem }
tr { break-inside: avoid }
@media print { body { max-width: none; margin: 0; font-size: 10pt } details > * { display: block } }
"""


def _html(comparison: Comparison, pictures: Mapping[str, tuple[bytes, bytes]]) -> str:
    title = printable.html_text(_title(comparison))
    facts = "".join(
        f"<p class='facts'>{printable.html_text(fact)}</p>" for fact in _facts(comparison)
    )
    sentences = "".join(
        f"<li>{printable.html_text(sentence)}</li>" for sentence in comparison.sentences
    )
    figures = "".join(_figure(caption, *both) for caption, both in pictures.items())
    tables = "".join(
        f"<h2>{printable.html_text(title)}</h2>{_rows(table, words)}"
        for title, table, words in _tables(comparison)
    )
    return (
        f"<!doctype html><html lang='en'><meta charset='utf-8'><title>{title}</title>"
        "<meta name='viewport' content='width=device-width'>"
        f"<style>{_STYLE}</style><h1>{title}</h1>{facts}{_rows(summary(comparison), 2)}"
        f"<ul>{sentences}</ul>{figures}{tables}</html>\n"
    )


def _rows(table: Table, words: int) -> str:
    """Return a table whose first columns are words, and the others numbers."""
    heading, rows = table

    def line(cells: Sequence[str], tag: str) -> str:
        return "".join(
            f"<{tag}{' class=words' if i < words else ''}>{printable.html_text(cell)}</{tag}>"
            for i, cell in enumerate(cells)
        )

    body = "".join(f"<tr>{line(row, 'td')}</tr>" for row in rows)
    return f"<div class='wide'><table><tr>{line(heading, 'th')}</tr>{body}</table></div>"


def _figure(caption: str, light: bytes, dark: bytes) -> str:
    """Return a figure for light and for dark screens; paper is always light."""
    text = printable.html_text(caption)
    return (
        "<figure><picture><source media='screen and (prefers-color-scheme: dark)' "
        f"srcset='{_data_url(dark)}'><img src='{_data_url(light)}' alt='{text}'></picture>"
        f"<figcaption>{text}</figcaption></figure>"
    )


def _data_url(svg: bytes) -> str:
    return "data:image/svg+xml;base64," + base64.b64encode(svg).decode()
