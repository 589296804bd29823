"""The report as it is read: its first paragraph, its pages in a browser, its table for a paper."""

from __future__ import annotations

import csv
import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tamtctl.comparison.found import Table
from tamtctl.comparison.rendering.latex import latex
from tamtctl.comparison.result import Comparison

BROWSERS = ("chromium-headless-shell", "chromium", "chromium-browser", "google-chrome")


@pytest.fixture(scope="module")
def browser() -> str:
    found = next(filter(None, map(shutil.which, BROWSERS)), None)
    if found is None:
        pytest.skip("there is no Chromium")
    return found


def lead_of(compared: Comparison) -> str:
    page = (compared.folder / "report.html").read_text()
    (lead,) = re.findall(r"<p class='lead'>(.*?)</p>", page)
    return str(lead)


def test_the_first_paragraph_says_who_won_by_how_much_and_whether_it_was_worth_it(
    compared: Comparison,
) -> None:
    lead = lead_of(compared)
    for sparsity in (0.5, 0.7):
        seeds: dict[str, list[float]] = {}
        for one in compared.subnetworks:
            if one.masks and one.sparsity == sparsity:
                seeds.setdefault(one.label, []).append(one.losses["mlm"].mean)
        at = {label: sum(losses) / len(losses) for label, losses in seeds.items()}
        best = min(at, key=lambda label: at[label])
        assert f"At sparsity {sparsity}, {best} has the lowest MLM loss of 5 methods, " in lead
        assert f"{at[best]:.3f} nats per masked token, where the dense model has" in lead
    assert "the best mask without training is" in lead
    assert lead in (compared.folder / "report.md").read_text().replace("\\", "")
    assert lead.endswith(".")


def test_figures_come_before_any_table_and_facts_behind(compared: Comparison) -> None:
    page = (compared.folder / "report.html").read_text()
    order = [page.index(part) for part in ("class='lead'", "<figure>", "<table", "<li>")]
    assert order == sorted(order)
    assert page.rindex("</figure>") < page.index("<table")
    assert page.rindex("class='facts'") > page.rindex("</table>")
    assert page.count("<table") == page.count("<thead><tr>")


def test_how_it_was_made_names_command_versions_seeds_and_hyperparameters(
    compared: Comparison, tiny_model: Path
) -> None:
    table = compared.found["provenance"].table()
    assert table is not None
    rows = {row[0]: row[1] for row in table.rows}
    assert rows["command"] == (
        "tamtctl compare --sparsity 0.5,0.7 --methods tamt-mlm,imp,obs,magnitude,random --seeds 1 "
        f"--recipe tiny.toml --model {tiny_model.name} --corpus text.txt --at-steps 3 "
        "--keep-scores --tasks sst2 --data-dir SST-2 --task-learning-rate 1e-09 --task-epochs 1 "
        "--blocks 12 --device cpu"
    )
    assert re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d UTC", rows["date"])
    assert re.match(
        r"tamtctl \S+, python 3\.\d+\.\d+, torch \S+, transformers \S+$", rows["versions"]
    )
    assert rows["seeds of random"] == "1, 2, 3"
    assert rows["TAMT-MLM at 0.5"].startswith("8 steps of 4 × 16 tokens at most; peak rate")
    assert "65,536 tokens of calibration" in rows["OBS at 0.7"]
    assert str(tiny_model.parent) not in (compared.folder / "report.html").read_text()


def test_zeros_are_told_by_embeddings_layers_and_all(compared: Comparison) -> None:
    table = compared.found["sparsity-by-layer"].table()
    assert table is not None
    for (level, methods, *shares), sparsity in zip(table.rows, (0.5, 0.7), strict=True):
        assert (level, methods) == (f"{sparsity:g}", "TAMT-MLM, IMP, OBS, magnitude, random")
        assert len(shares) == 3
        for share in shares:  # every matrix has the same, but for a part of a weight
            assert float(share.removesuffix(" %")) == pytest.approx(100 * sparsity, abs=0.2)


def test_criteria_are_shown_at_the_better_of_two_budgets(compared: Comparison) -> None:
    found = compared.to_dict()["two_budgets"]
    assert [(one["method"], one["sparsity"]) for one in found] == [
        ("obs", 0.5), ("magnitude", 0.5), ("obs", 0.7), ("magnitude", 0.7)
    ]  # fmt: skip
    own = {(o.method, o.sparsity): o.losses["mlm"].mean for o in compared.subnetworks if o.masks}
    for one in found:
        uniform, other = one["budgets"]["uniform"], one["budgets"]["global by fisher"]
        assert uniform["loss"] == own[one["method"], one["sparsity"]]
        # As many zeros in all, elsewhere.
        sparsities = other["sparsities"]
        assert min(sparsities.values()) < one["sparsity"] < max(sparsities.values())
        better = min(one["budgets"], key=lambda n: one["budgets"][n]["loss_on_training_text"])
        assert one["better"] == better
        assert one["difference"]["value"] == pytest.approx(other["loss"] - uniform["loss"])
    assert {one.method for one in compared.beside} == {"obs", "magnitude"}
    rows = json.loads((compared.folder / "results.json").read_text())["results"]
    assert not any(row["among"] for row in rows)  # the tables of the sweep are of one allocation
    told = [line for line in compared.sentences if "the better of two allocations" in line]
    assert len(told) == 2
    assert all("with the same sparsity in every matrix" in line for line in told)


def test_a_paper_has_its_table(compared: Comparison) -> None:
    text = (compared.folder / "results.tex").read_text()
    assert text.count("\\toprule") == text.count("\\bottomrule") == 1
    assert text.count("{") == text.count("}")
    with (compared.folder / "results.csv").open() as file:
        dense = float(next(csv.DictReader(file))["mlm_loss"])
    assert f"\\textendash{{}} & dense & {dense:.3f} & 0.000 & " in text
    rows = [line for line in text.splitlines() if line.endswith("\\\\")]
    assert len({len(re.findall(r"(?<!\\)&", row)) for row in rows}) == 1
    (caption,) = re.findall(r"\\caption\{(.*)\}", text)
    for said in ("lower is better", "12 sequences", "text.txt", "pre{}-trained head", "seeds"):
        assert said.replace("{}", "") in caption.replace("{}", "")


@pytest.mark.parametrize("text", ["\\input{x}", "[1em]", "*", "a & b % c", "$x^2_i$", "--", "#~"])
def test_a_name_is_text_in_a_table_for_latex(text: str) -> None:
    written = latex(Table([text, "x"], [[text, "1"], [text, "2"]], words=1), text, "tab:x")
    body = written[written.index("\\toprule") :]
    assert "\\input{" not in body
    assert not re.search(r"\\\\\s*[\[*]", body)  # which would be an argument of the line before
    assert body.count("\\\\") == 3
    assert len(re.findall(r"(?<!\\)&", body)) == 3
    assert not re.search(r"(?<!\\)[%#$^~]", body.replace("$-$", ""))


def typeset(written: str, folder: Path) -> str:
    """Return what LaTeX logs of a table in a plain article."""
    if shutil.which("pdflatex") is None:
        pytest.skip("there is no pdflatex")
    (folder / "results.tex").write_text(written)
    (folder / "paper.tex").write_text(
        "\\documentclass{article}\n\\usepackage{booktabs,graphicx}\n"
        "\\begin{document}\n\\input{results}\n\\end{document}\n"
    )
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "paper.tex"]
    done = subprocess.run(command, cwd=folder, capture_output=True, check=False)
    log = done.stdout.decode("utf-8", "replace")
    assert done.returncode == 0, log
    return log


def test_a_paper_typesets_its_table_within_the_page(compared: Comparison, tmp_path: Path) -> None:
    log = typeset((compared.folder / "results.tex").read_text(), tmp_path)
    assert "Output written on paper.pdf (1 page" in log
    assert "Overfull" not in log


def test_latex_typesets_the_names_of_strangers(tmp_path: Path) -> None:
    signs = "".join(map(chr, range(0x20, 0x250))) + "−×–—…→≤≥·“”’漢字λИ😀\u202e\ud800"
    hostile = ["%_&#{}~^\\", "\\input{x}", "[1em]", "*", "--", "<x>", '"', "", "^^41", "$$", "\\"]
    table = Table(["a", signs[:200]], [[name, name] for name in [*hostile, *signs]], words=1)
    typeset(latex(table, signs, "tab:x"), tmp_path)


@pytest.mark.renders
@pytest.mark.parametrize("width", [390, 1280])
def test_nothing_overflows_in_a_browser(
    width: int, compared: Comparison, browser: str, tmp_path: Path
) -> None:
    """The page measures itself: nothing but a table in its own scrolling box is wider than it."""
    page = (compared.folder / "report.html").read_text()
    script = """<script>addEventListener('load', () => {
      const root = document.documentElement, out = [];
      for (const one of document.querySelectorAll('body *')) {
        if (one.closest('table') || one.tagName == 'SCRIPT' || one.tagName == 'SOURCE') continue;
        const box = one.getBoundingClientRect();
        if (box.right > root.clientWidth + 1 || box.left < -1) out.push(one.tagName);
      }
      const images = [...document.images].filter(i => !i.complete || !i.naturalWidth).length;
      document.title = JSON.stringify({wide: root.scrollWidth, seen: root.clientWidth, out, images,
        pictures: document.images.length});
    })</script>"""
    frame = tmp_path / "report.html"
    frame.write_text(page.replace("</body>", f"{script}</body>"))
    done = subprocess.run(
        [
            browser, "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars",
            f"--user-data-dir={tmp_path / 'profile'}", f"--window-size={width},900",
            "--virtual-time-budget=5000", "--dump-dom", frame.as_uri(),
        ],
        capture_output=True, text=True, timeout=120, check=True,
    )  # fmt: skip
    (title,) = re.findall(r"<title>(.*?)</title>", done.stdout)
    found = json.loads(title)
    assert found["seen"] == width
    assert found["wide"] <= width, found
    assert found["out"] == []
    assert found["images"] == 0
    assert found["pictures"] >= 4
