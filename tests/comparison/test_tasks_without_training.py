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

from tamtctl.comparison.api import compare
from tamtctl.comparison.config import CompareConfig
from tamtctl.foundations.cache import cache_folder
from tamtctl.tasks.evaluation.api import evaluate
from tamtctl.tasks.evaluation.config import EvaluateConfig

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


@pytest.mark.usefixtures("run")
def test_a_sweep_of_the_usual_methods_draws_the_losses_of_a_sum(
    model: Path, text_file: Path
) -> None:
    config = CompareConfig(
        sparsities=(0.5, 0.7),
        methods=("tamt-kd+embedding", "magnitude"),
        recipe="tiny.toml",
        model=str(model),
        corpus=(str(text_file),),
        tasks=("stsb-zero-shot",),
        data_dir=".",
        device="cpu",
    )
    picture = compare(config).found["loss-by-step"].picture()
    assert picture is not None
    assert len(picture.draw().axes) == 4  # both terms at both sparsities


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


def test_two_files_that_change_places_are_other_data(
    run: Run, model: Path, text_file: Path
) -> None:
    words = [ticket_for(model, Path("ticket")), "--corpus", text_file, "--tasks", "retrieval"]
    words += ["--sequence-length", 16]
    alike = [{"_id": f"d{i}", "text": text} for i, text in enumerate(_texts(5, 80))]
    for name, records in (("q.jsonl", alike[:40]), ("p.jsonl", alike[40:])):
        renamed = [one | {"_id": f"d{i}"} for i, one in enumerate(records)]
        Path(name).write_text("".join(json.dumps(one) + "\n" for one in renamed))
    rows = "".join(f"d{i}\td{i}\t1\n" for i in range(40))
    Path("r.tsv").write_text("query-id\tcorpus-id\tscore\n" + rows)

    def dense(queries: str, passages: str) -> float:
        files = ["--queries", queries, "--passages", passages, "--relevant", "r.tsv"]
        found = compared(run, *words, *files)["results"][0]
        return float(found["retrieval_ndcg@10"])

    first, other = dense("q.jsonl", "p.jsonl"), dense("p.jsonl", "q.jsonl")
    files: dict[str, Any] = {"queries": "p.jsonl", "passages": "q.jsonl", "relevant": "r.tsv"}
    asked = EvaluateConfig(name=str(model), task="retrieval", device="cpu", **files)
    assert other == pytest.approx(evaluate(asked).score, abs=1e-9)
    assert other != first
    Path("moved.jsonl").write_text(Path("q.jsonl").read_text())
    kept = set(cache_folder("scores").iterdir())
    assert dense("moved.jsonl", "p.jsonl") == first  # wherever a file lies
    assert set(cache_folder("scores").iterdir()) == kept


def test_a_task_of_your_own_stands_beside_one_without_training(
    run: Run, model: Path, text_file: Path
) -> None:
    rows = [f"{text},{text.split()[-1] in tiny.WORDS[:9]}" for text in _texts(6, 60)]
    Path("own.csv").write_text("\n".join(["text,label", *rows]))
    words = ["--sparsity", 0.5, "--methods", "magnitude", "--recipe", "tiny.toml"]
    words += ["--model", model, "--corpus", text_file, "--data-dir", "."]
    words += ["--tasks", "stsb-zero-shot,own", "--train", "own.csv", "--task-epochs", 1]
    row = compared(run, *words)["results"][1]
    assert {"stsb-zero-shot_pearson", "own_accuracy"} <= row.keys()


def test_a_plan_of_tickets_has_every_row_that_is_scored(
    run: Run, model: Path, text_file: Path
) -> None:
    words = ["compare", ticket_for(model, Path("ticket")), "--corpus", text_file]
    words += ["--tasks", "stsb-zero-shot", "--data-dir", ".", "--device", "cpu"]
    words += ["--sequence-length", 16, "--blocks", 8]

    def plan() -> dict[str, Any]:
        done = run(*words, "--dry-run", "--json")
        assert done.code == 0, done.err
        told: dict[str, Any] = json.loads(done.out)
        return told

    first = plan()
    assert first["slurm"] is None  # tickets are compared in one process
    states = {one["cell"]: one["state"] for one in first["runs"]}
    assert states.keys() >= {"dense", "magnitude at 0.5", "ticket"}
    assert set(states.values()) == {"to do"}
    assert run(*words).code == 0
    assert {one["state"] for one in plan()["runs"]} == {"done"}


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"similarity_fn_name": "euclidean"}, "compares embeddings by 'euclidean'"),
        ({"pooling_mode": "strange"}, "strange"),
    ],
)
def test_a_model_that_cannot_be_scored_is_refused_before_a_search(
    run: Run, text_file: Path, changed: dict[str, str], message: str
) -> None:
    pooling = {"pooling_mode": changed.get("pooling_mode", "mean")}
    main = {key: value for key, value in changed.items() if key != "pooling_mode"}
    other = sentence_model(Path("other"), pooling, config_sentence_transformers=main)
    words = ["--sparsity", 0.5, "--methods", "tamt-kd", "--recipe", "tiny.toml", "--blocks", 8]
    words += ["--model", other, "--corpus", text_file, "--tasks", "retrieval", *FILES]
    done = run("compare", *words, "--device", "cpu")
    assert (done.code, "Traceback" in done.err) == (1, False), done.err
    assert message in done.err
    assert not Path("runs").exists()


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["--tasks", "stsb-zeroshot"], 2, "did you mean stsb-zero-shot"),
        (["--tasks", "stsb-zero-shot", "--limit", "5"], 2, "--limit is for fine-tuning"),
        (["--tasks", "stsb-zero-shot", "--task-seeds", "1,2"], 2, "--task-seeds is for fine"),
        (["--tasks", "stsb-zero-shot", "--find-task-learning-rate"], 2, "is for fine-tuning"),
        (["--limit", "5"], 2, "--limit is for fine-tuning; add a task that takes it"),
        (["--tasks", "stsb-zero-shot", "--train", "x.csv"], 2, "give it a name among the --tasks"),
        (["--tasks", "retrieval", "--queries", ""], 2, "--tasks retrieval needs --queries, too"),
        (["--tasks", "retrieval"], 2, "--tasks retrieval needs --queries, too"),
        (
            ["--tasks", "stsb-zero-shot", *FILES],
            2,
            "--queries is for the task retrieval; add",
        ),
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
