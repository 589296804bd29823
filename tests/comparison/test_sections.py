"""The shelf of sections: every row says what it found, and one more row is in every report."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from command_line import Run
from small_search import RECIPE

from tamtctl.comparison.found import Found, Picture, Table
from tamtctl.comparison.opening import Opened
from tamtctl.comparison.rendering.plotting import panels, render
from tamtctl.comparison.result import Comparison
from tamtctl.comparison.sections.similarity import Overlaps, Similarities
from tamtctl.comparison.sections.sparsity_by_layer import LayerSparsities
from tamtctl.comparison.sections.table import SECTIONS, Section, register
from tamtctl.foundations import printable
from tamtctl.foundations.errors import UsageError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

TOY = Section(name="toy", code=__name__, title="The toys & their weight", place="first")


@dataclass(frozen=True)
class Weights(Found):
    """How many weights each subnetwork keeps."""

    kept: dict[str, int]

    def preface(self) -> list[str]:
        return ["A toy weighs little."]

    def sentences(self) -> list[str]:
        return [f"<{name}> keeps {kept} toys" for name, kept in self.kept.items()]

    def table(self) -> Table:
        return Table(["toy", "weights"], [[n, str(kept)] for n, kept in self.kept.items()], words=1)

    def picture(self) -> Picture:
        return Picture("A figure of toys.", self._drawn)

    def to_dict(self) -> dict[str, Any]:
        return {"toys": self.kept}

    def _drawn(self) -> Figure:
        figure, (axes,) = panels(1)
        axes.bar(list(self.kept), list(self.kept.values()))
        return figure


def find(comparison: Comparison, opened: Opened) -> Weights:
    assert opened.model
    masked = [one for one in comparison.subnetworks if one.masks]
    return Weights({o.name: sum(o.masks.kept.values()) for o in masked if o.masks})


@pytest.mark.renders
@pytest.mark.parametrize("section", SECTIONS.values(), ids=list(SECTIONS))
def test_every_row_says_what_it_found(section: Section, compared: Comparison) -> None:
    found = compared.found.get(section.name)
    if found is None:
        pytest.skip("it has nothing to say here: test_ceiling has it")
    table, picture, fields = found.table(), found.picture(), found.to_dict()
    assert found.sentences() or table or picture
    page = (compared.folder / "report.html").read_text()
    text = (compared.folder / "report.md").read_text()
    for line in (*found.preface(), *found.sentences()):
        assert line == line.strip()
        assert "\n" not in line
        assert printable.html_text(line) in page
        assert printable.markdown(line) in text
    assert set(found.sentences()) <= set(compared.sentences)
    if table:
        assert table.rows
        assert {len(row) for row in table.rows} == {len(table.heading)}
        assert 0 < table.words <= len(table.heading)
        assert "".join(f"<td{' class=words' if i < table.words else ''}>{printable.html_text(cell)}"
                       "</td>" for i, cell in enumerate(table.rows[-1])) in page  # fmt: skip
        headline = f"<h2>{printable.html_text(section.title)}</h2>"
        assert (headline in page) == (section.place != "first")
    if picture:
        assert printable.html_text(picture.caption) in page
        svg = (compared.folder / "figures" / f"{section.file}.svg").read_bytes()
        assert render(picture.draw, "svg") == [svg]  # drawn again, the bytes are the same
        assert (compared.folder / "figures" / f"{section.file}.png").stat().st_size > 1000
    written = json.loads((compared.folder / "results.json").read_text())
    assert {name: written[name] for name in fields} == json.loads(json.dumps(fields))
    assert section.function("find").__doc__


def test_zeros_are_drawn_by_layer_only_where_layers_differ(compared: Comparison) -> None:
    alike = compared.found["sparsity-by-layer"]
    assert alike.picture() is None
    (why,) = alike.preface()
    assert why.startswith("At sparsity 0.5, 0.7, each mask has as many zeros in one layer")
    dense = compared.subnetworks[0]  # what stands beside a sweep has other allocations
    others = replace(compared, subnetworks=[dense, *compared.beside])
    uneven = LayerSparsities(others, frozenset())
    picture = uneven.picture()
    assert picture
    assert not uneven.preface()
    assert [axes.get_title() for axes in picture.draw().axes] == [
        f"sparsity {level}" for level in dict.fromkeys(o.level for o in compared.beside)
    ]


def test_masks_that_are_nearly_the_same_are_not_drawn_as_far_apart() -> None:
    grid: list[list[float | None]]
    grid = [[1.0, 0.9985, 0.25], [0.9985, 1.0, None], [0.25, None, 1.0]]
    picture = Similarities([Overlaps(0.7, ["a", "b", "c"], grid, grid)]).picture()
    assert picture
    texts = [text.get_text() for text in picture.draw().axes[0].texts]
    assert texts == ["1", ".99", ".25", ".99", "1", "–", ".25", "–", "1"]


def test_figures_of_the_report_are_those_of_its_sections(compared: Comparison) -> None:
    drawn = {SECTIONS[name].file for name, found in compared.found.items() if found.picture()}
    assert {path.stem for path in (compared.folder / "figures").iterdir()} == drawn
    assert drawn == {"loss", "flips", "seconds", "steps", "similarity", "score"}


def test_one_more_row_is_in_every_report(
    tiny_model: Path, text_file: Path, working_folder: None, run: Run
) -> None:
    Path("tiny.toml").write_text(RECIPE)
    words = (
        "compare --sparsity 0.5 --methods magnitude,random --recipe tiny.toml --blocks 8".split()
    )
    words += ["--device", "cpu", "--model", str(tiny_model), "--corpus", str(text_file)]
    with SECTIONS.holding(TOY):
        done = run(*words, "--json")  # which shows people the rest on stderr
    assert done.code == 0, done.err
    sentence = f"<magnitude> keeps {(kept := json.loads(done.out)['toys'])['magnitude']} toys"
    assert kept.keys() == {"magnitude", "random seed 1", "random seed 2", "random seed 3"}
    assert sentence in done.err.splitlines()
    assert f"│ magnitude     │    {kept['magnitude']} │" in done.err
    (folder,) = Path("runs").glob("compare-*")
    written = json.loads((folder / "results.json").read_text())
    assert written["toys"] == kept
    assert sentence in written["sentences"]
    page, text = (folder / "report.html").read_text(), (folder / "report.md").read_text()
    assert f"<li>{printable.html_text(sentence)}</li>" in page
    assert f"<td class=words>magnitude</td><td>{kept['magnitude']}</td>" in page
    assert f"| magnitude | {kept['magnitude']} |" in text
    for line in ("A toy weighs little.", "A figure of toys."):
        assert line in page
        assert line in text.replace("\\", "")
    assert {path.name for path in (folder / "figures").glob("toy.*")} == {"toy.svg", "toy.png"}


@pytest.mark.parametrize(
    ("row", "line"),
    [
        (replace(TOY, name="differences"), "there is a section of the report 'differences' alrea"),
        (replace(TOY, name="Toy box"), "cannot be called 'Toy box': .*, such as 'toy-box'"),
        (replace(TOY, name="../toy"), "cannot be called '../toy'"),
        (replace(TOY, figure="loss"), "has a figure 'loss', as 'loss-by-sparsity' has; give its"),
        (replace(TOY, figure="../toy"), "a figure cannot be called '../toy'"),
        (replace(TOY, name="score"), "has a figure 'score', as 'correlations' has"),
        (replace(TOY, place="top"), "stands first, middle or last, not 'top'"),  # type: ignore[arg-type]
    ],
)
def test_what_cannot_be_a_row_is_refused_with_a_hint(row: Section, line: str) -> None:
    before = list(SECTIONS)
    with pytest.raises(UsageError, match=line):
        register(row)
    assert list(SECTIONS) == before


def test_a_section_without_code_is_refused_before_any_work(
    tiny_model: Path, text_file: Path, working_folder: None, run: Run
) -> None:
    words = "compare --sparsity 0.5 --methods magnitude --device cpu".split()
    with SECTIONS.holding(replace(TOY, code="no_such_module")):
        done = run(*words, "--model", tiny_model, "--corpus", text_file)
    assert done.code == 2
    assert "the code of 'toy', module no_such_module, cannot be imported" in done.err
    assert not Path("runs").exists()


def test_no_section_takes_the_json_field_of_another(compared: Comparison) -> None:
    with pytest.raises(UsageError, match="section 'toy' gives the JSON field 'results', which"):
        replace(compared, found={"toy": Fields({"results": 1})}).to_dict()


class Fields(Found):
    def __init__(self, fields: dict[str, Any]) -> None:
        self.fields = fields

    def to_dict(self) -> dict[str, Any]:
        return self.fields


def test_what_a_mask_costs_stands_beside_the_gap_that_it_closes(compared: Comparison) -> None:
    losses = {(o.found_by, o.sparsity): o.losses["mlm"].mean for o in compared.subnetworks}
    dense = compared.subnetworks[0].losses["mlm"].mean
    costs = compared.to_dict()["costs"]
    assert {one["method"] for one in costs} == {"TAMT-MLM", "IMP", "OBS", "magnitude", "random"}
    for one in costs:
        if one["measure"] != "mlm" or one["method"] in ("OBS", "random"):
            continue
        found_by = {"TAMT-MLM": "tamt", "IMP": "imp"}.get(one["method"], "magnitude")
        magnitude = losses["magnitude", one["sparsity"]]
        share = (magnitude - losses[found_by, one["sparsity"]]) / (magnitude - dense)
        assert one["gap_closed"] == pytest.approx(share)
        assert (one["seconds"] > 0) == (found_by != "magnitude")
        assert one["calibration_seconds"] == 0  # nothing here looks at text before training
        assert len(one["along"]) == (found_by == "tamt")  # at the one step that was asked for
    told = [line for line in compared.sentences if "the best mask without training is" in line]
    assert len(told) == 4  # two losses at two sparsities


def test_a_difference_that_is_told_lies_in_its_interval(compared: Comparison) -> None:
    report = (compared.folder / "report.md").read_text().replace("\\", "")
    number = r"(-?[\d.]+)"
    told = re.findall(rf"difference of {number}[^\[\]]*interval \[{number}, {number}\]", report)
    assert told
    for value, low, high in told:
        assert float(low) <= float(value) <= float(high)
