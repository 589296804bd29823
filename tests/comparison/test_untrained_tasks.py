"""Comparisons on tasks without training: the scores of evaluate, paired, and kept."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
from command_line import Run, runner
from samples import ticket_for
from sentence_models import sentence_model
from small_search import RECIPE

from tamtctl.foundations.cache import cache_folder
from tamtctl.tasks.evaluation.api import evaluate
from tamtctl.tasks.evaluation.config import EvaluateConfig

pytestmark = pytest.mark.usefixtures("blank_figures")
FILES = ["--queries", "q.jsonl", "--passages", "p.jsonl", "--relevant", "r.tsv"]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return sentence_model(tmp_path_factory.mktemp("models") / "st", {"pooling_mode": "mean"})


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Run:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TAMTCTL_CACHE", str(tmp_path / "cache"))
    Path("tiny.toml").write_text(RECIPE)
    _write_pairs(Path("STS-B"))
    _write_questions()
    return runner(monkeypatch, capsys)


def _texts(seed: int, count: int) -> list[str]:
    generator = np.random.default_rng(seed)
    lengths = generator.integers(2, 9, count)
    return [" ".join(map(str, generator.choice(tiny.WORDS, n))) for n in lengths]


def _write_pairs(folder: Path) -> None:
    folder.mkdir()
    pairs = zip(_texts(1, 40), _texts(2, 40), strict=True)
    rows = [f"{a}\t{b}\t{i % 6}\n" for i, (a, b) in enumerate(pairs)]
    (folder / "dev.tsv").write_text("sentence1\tsentence2\tscore\n" + "".join(rows))


def _write_questions() -> None:
    """Forty questions in thirty-one groups, each answered by one of forty passages."""
    numbered = list(enumerate(zip(_texts(3, 40), _texts(4, 40), strict=True)))
    asked = [{"_id": f"q{i}", "text": q, "group": str(min(i, 30))} for i, (q, _) in numbered]
    there = [{"_id": f"p{i}", "text": p} for i, (_, p) in numbered]
    for name, records in (("q.jsonl", asked), ("p.jsonl", there)):
        Path(name).write_text("".join(json.dumps(one) + "\n" for one in records))
    rows = "".join(f"q{i}\tp{i}\t1\n" for i, _ in numbered)
    Path("r.tsv").write_text("query-id\tcorpus-id\tscore\n" + rows)


def compared(run: Run, *words: object) -> dict[str, Any]:
    done = run("compare", *words, "--blocks", 8, "--device", "cpu", "--json")
    assert done.code == 0, done.err
    result: dict[str, Any] = json.loads(done.out)
    return result


def test_a_sweep_has_the_scores_of_evaluate(run: Run, model: Path, text_file: Path) -> None:
    words = ["--sparsity", 0.5, "--methods", "tamt-kd,magnitude", "--recipe", "tiny.toml"]
    words += ["--model", model, "--corpus", text_file]
    result = compared(run, *words, "--tasks", "stsb-zero-shot,retrieval", "--data-dir", ".", *FILES)
    files = {"queries": "q.jsonl", "passages": "p.jsonl", "relevant": "r.tsv"}
    given: dict[str, dict[str, Any]] = {"stsb-zero-shot": {"data_dir": "."}, "retrieval": files}
    rows = result["results"]
    assert [row["method"] for row in rows] == ["dense", "tamt", "magnitude"]
    for row in rows:
        for task, data in given.items():
            name = row["ticket"] or str(model)
            alone = evaluate(EvaluateConfig(name=name, task=task, device="cpu", **data))
            assert row[f"{task}_{alone.metric}"] == pytest.approx(alone.score, abs=1e-9), row
    kept = list(cache_folder("scores").iterdir())
    assert len(kept) == 6
    assert any("retrieval" in one and "[" in one for one in result["sentences"])


def test_a_plan_knows_which_scores_are_left(run: Run, model: Path, text_file: Path) -> None:
    words = ["--sparsity", 0.5, "--methods", "magnitude", "--recipe", "tiny.toml"]
    words += ["--model", model, "--corpus", text_file, "--device", "cpu"]
    words += ["--tasks", "stsb-zero-shot", "--data-dir", "."]

    def states() -> list[str]:
        planned = json.loads(run("compare", *words, "--dry-run", "--json").out)["runs"]
        return [one["state"] for one in planned]

    assert states() == ["to do", "to do"]
    assert run("compare", *words, "--shard", "2/2").code == 0  # the dense model
    assert states() == ["to do", "done"]


def test_a_score_is_measured_once_for_each_content(run: Run, model: Path, text_file: Path) -> None:
    told = ["--tasks", "stsb-zero-shot", "--data-dir", ".", "--corpus", text_file]
    words = [ticket_for(model, Path("ticket")), *told]

    def scores(*more: str) -> dict[str, float]:
        found = compared(run, *words, "--sequence-length", 16, *more)["results"]
        return {row["method"]: row["stsb-zero-shot_pearson"] for row in found}

    first, kept = scores(), set(cache_folder("scores").iterdir())
    assert scores() == first
    assert set(cache_folder("scores").iterdir()) == kept
    damaged = next(iter(kept))
    damaged.write_text("{}")
    assert scores() == first  # a damaged file is no score
    dev = Path("STS-B") / "dev.tsv"
    dev.write_text(dev.read_text().replace("\t5\n", "\t0\n"))
    assert scores("--output-dir", "other") != first
    assert len(list(cache_folder("scores").iterdir())) == 2 * len(kept)


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["--tasks", "retrieval"], 2, "--tasks retrieval needs --queries, too"),
        (["--tasks", "stsb-zero-shot", *FILES], 2, "--queries is for the task retrieval; add it"),
        (["--tasks", "retrieval", *FILES[:4], "--relevant", "q.jsonl"], 1, "is not the header"),
        (["--tasks", "stsb-zero-shot", "--data-dir", "nowhere"], 1, "nowhere"),
    ],
)
def test_what_is_wrong_is_said_before_a_search(
    run: Run, model: Path, text_file: Path, words: list[str], code: int, message: str
) -> None:
    at = ["--model", model, "--corpus", text_file, "--recipe", "tiny.toml"]
    done = run("compare", "--sparsity", "0.5", *at, *words)
    assert (done.code, "Traceback" in done.err) == (code, False), done.err
    assert message in done.err
    assert done.err.count("\n") == 1
    assert not Path("runs").exists()
