"""Comparisons through the command line, at a scale of milliseconds."""

from __future__ import annotations

import csv
import itertools
import json
import re
import shutil
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import processes
import pytest
import tiny
from command_line import Run, runner
from samples import ticket_for
from small_search import RECIPE
from small_tasks import sst2_folder

from tamtctl.comparison.config import CompareConfig
from tamtctl.comparison.search_log import SearchLog
from tamtctl.ticket.ticket import Ticket


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Run:
    monkeypatch.chdir(tmp_path)
    Path("tiny.toml").write_text(RECIPE)
    return runner(monkeypatch, capsys)


@pytest.fixture
def sweep(tiny_model: Path, text_file: Path) -> list[object]:
    """A sweep of two sparsities; what is missing are the methods."""
    words = "compare --sparsity 0.5,0.7 --recipe tiny.toml --blocks 12 --device cpu".split()
    return [*words, "--model", tiny_model, "--corpus", text_file]


@pytest.fixture
def sst2(tmp_path: Path) -> Path:
    return sst2_folder(tmp_path / "SST-2")


def runs() -> dict[Path, int]:
    """Return the finished searches and when each was finished."""
    return {path: path.stat().st_mtime_ns for path in Path("runs").glob("search-*/result.json")}


@pytest.mark.slow
@pytest.mark.renders
def test_a_sweep_reports_every_method_and_repeats_no_run(run: Run, sweep: list[object]) -> None:
    methods = ["--methods", "tamt-mlm,tamt-kd,imp,magnitude,random", "--seeds", "1,2"]
    done = run(*sweep, *methods, "--json")
    assert done.code == 0, done.err
    result = json.loads(done.out)
    folder = Path(result["folder"])
    with (folder / "results.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert {"method", "objective", "sparsity", "seed", "mlm_loss", "kd_loss"} <= rows[0].keys()
    # Dense; at each sparsity three trained methods with two seeds, magnitude, and three random.
    assert len(rows) == 1 + 2 * (3 * 2 + 1 + 3)
    dense = rows[0]
    assert (dense["method"], float(dense["kd_loss"])) == ("dense", 0.0)
    steps = {(row["method"], row["objective"], row["sparsity"], row["steps"]) for row in rows}
    assert {("tamt", "mlm", "0.5", "8"), ("tamt", "kd", "0.7", "12")} <= steps  # equal budget
    assert {("imp", "mlm", "0.5", "8"), ("imp", "mlm", "0.7", "12")} <= steps
    written = json.loads((folder / "results.json").read_text())
    assert written.keys() == result.keys() | {"environment"}
    # What is written may be published: it has the names of the model and the text alone.
    named = {"model": "tiny-bert", "corpus": ["text.txt"], "recipe": "tiny.toml"}
    assert written["config"] == result["config"] | named
    for key in result.keys() - {"config"}:
        assert written[key] == result[key]
    names = {path.name for path in (folder / "figures").iterdir()}
    assert {"loss.png", "loss.svg", "flips.png", "similarity.svg", "steps.png"} <= names
    assert (folder / "figures" / "loss.png").read_bytes().startswith(b"\x89PNG")
    page = (folder / "report.html").read_text()
    assert "prefers-color-scheme: dark" in page
    assert not re.search(r"(src|href)=.(?!data:)", page)  # self-contained
    assert "| 0.5 | TAMT-MLM |" in (folder / "report.md").read_text()

    finished = runs()
    assert len(finished) == 12
    again = run(*sweep, *methods, "--json")
    assert json.loads(again.out)["results"] == result["results"]
    with (folder / "results.csv").open() as file:
        assert next(csv.reader(file)) == list(rows[0])  # kept losses are in the same order
    assert again.err.count("done before") == 12
    more = run(*sweep, "--methods", "tamt-mlm,tamt-mlm+kd,imp,magnitude", "--seeds", "1")
    assert more.code == 0, more.err
    assert more.err.count("searching") == 2  # what is new: tamt-mlm+kd at two sparsities
    assert finished.items() <= runs().items()


def test_tickets_stand_beside_their_baselines(run: Run, tiny_model: Path, text_file: Path) -> None:
    found = run(
        *"search --sparsity 0.7 --steps 20 --recipe tiny.toml --device cpu --json".split(),
        *("--model", tiny_model, "--corpus", text_file),
    )
    search = json.loads(found.out)
    done = run("compare", search["ticket"], "--device", "cpu")
    assert done.code == 0, done.err
    ticket = Path(search["run_folder"]).name.removeprefix("search-")
    for row in ("dense", "random", "magnitude"):
        assert f"│ {row} " in done.out
    (folder,) = Path("runs").glob(f"compare-{ticket}-*")
    result = json.loads((folder / "results.json").read_text())
    rows = result["results"]
    assert [row["seed"] for row in rows if row["method"] == "random"] == [1, 2, 3]
    # The same text, noise and head as in the search, which compares with the random mask of seed 1.
    losses = {row["method"]: row["mlm_loss"] for row in rows if row["seed"] in (None, 1)}
    assert losses == pytest.approx(
        {
            "dense": search["losses"]["dense"],
            "magnitude": search["losses"]["magnitude"],
            "random": search["losses"]["random"],
            "tamt": search["losses"]["ticket"],
        },
        abs=1e-6,
    )
    assert any("at 0.7 in MLM loss" in sentence for sentence in result["sentences"])
    assert list(Path("runs").glob("search-*")) == [Path(search["run_folder"])]  # no other run


def test_parts_of_a_sweep_are_put_together(run: Run, sweep: list[object]) -> None:
    sweep += ["--methods", "tamt-mlm,imp,magnitude", "--seeds", "1,2"]
    plan = run(*sweep, "--dry-run", "--json")
    assert plan.code == 0, plan.err
    planned = json.loads(plan.out)["runs"]
    assert {one["state"] for one in planned} == {"to do"}
    assert sum(one["steps"] for one in planned) == 2 * (8 + 12) + 2 * (8 + 4)  # imp goes on
    assert [one["parts"] for one in planned] == [6] * 8
    assert "#SBATCH --array=1-6\n" in json.loads(plan.out)["slurm"]
    assert all(one["estimated_seconds"] > 0 for one in planned)
    assert not Path("runs").exists()
    parts = [json.loads(run(*sweep, "--shard", f"{i}/3", "--json").out)["runs"] for i in (1, 2, 3)]
    folders = [one["run_folder"] for part in parts for one in part]
    assert sorted(folders) == sorted(one["run_folder"] for one in planned)  # each in one part
    assert all(parts)
    assert not list(Path("runs").glob("compare-*"))
    finished = runs()
    again = run(*sweep, "--dry-run")
    assert "0 of 8 runs to do" in again.out
    assert "SBATCH" not in again.out
    done = run(*sweep)
    assert done.code == 0, done.err
    assert runs() == finished


def test_a_killed_sweep_goes_on(run: Run, sweep: list[object], tmp_path: Path) -> None:
    sweep += ["--methods", "tamt-mlm,tamt-kd"]
    process = processes.start(sweep, tmp_path)
    while not runs() and process.is_alive():
        time.sleep(0.01)
    process.kill()
    process.join()
    finished = runs()
    assert 0 < len(finished) < 4
    done = run(*sweep)
    assert done.code == 0, done.err
    assert done.err.count("done before") == len(finished)
    assert finished.items() < runs().items()
    assert len(runs()) == 4


@pytest.mark.parametrize("damaged", ["ticket/mask.safetensors", "config.json"])
def test_a_damaged_run_is_named_and_left_out_or_rebuilt(
    damaged: str, run: Run, sweep: list[object]
) -> None:
    sweep += ["--methods", "tamt-mlm"]
    before = json.loads(run(*sweep, "--json").out)["results"]
    (victim,) = Path("runs").glob("search-*-0.5-*")
    (victim / damaged).write_text("{}")
    assert "damaged" in run(*sweep, "--dry-run").out
    done = run(*sweep, "--json")
    assert done.code == 0, done.err
    (why,) = json.loads(done.out)["left_out"].values()
    assert str(victim) in why
    assert [row["sparsity"] for row in json.loads(done.out)["results"]] == [0.0, 0.7]
    for more in ([], ["--shard", "1/1"]):
        quiet = run(*sweep, "-q", *more)  # which does not hide what is missing
        assert quiet.err == f"left out: tamt-mlm at 0.5, seed 1: {why}\n"
    rebuilt = json.loads(run(*sweep, "--force", "--json").out)
    assert not rebuilt["left_out"]
    seconds = {"seconds": None}
    assert [row | seconds for row in rebuilt["results"]] == [row | seconds for row in before]


def test_searches_are_evaluated_on_their_way(run: Run, sweep: list[object]) -> None:
    sweep += ["--methods", "tamt-mlm,imp", "--json"]
    before = json.loads(run(*sweep).out)["results"]
    done = run(*sweep, "--at-steps", "3,8,10")
    assert done.code == 0, done.err
    assert "at 0.5 mask training takes 8 steps: it is not evaluated at --at-steps 10" in done.err
    result = json.loads(done.out)
    assert done.err.count("once more") == 2  # they had not been evaluated
    seconds = {"seconds": None}
    assert [row | seconds for row in result["results"]] == [row | seconds for row in before]
    along = {(one["sparsity"], one["step"]): one["mlm_loss"] for one in result["at_steps"]}
    assert along.keys() == {(0.5, 3), (0.5, 8), (0.7, 3), (0.7, 8), (0.7, 10)}
    for folder in Path("runs").glob("search-*-tamt-*"):  # there and only there
        lines = map(json.loads, (folder / "metrics.jsonl").read_text().splitlines())
        evaluated = {line["step"] for line in lines if line["eval_losses"]}
        assert evaluated == {3, 8} | ({10} if "-0.7-" in folder.name else set())
    final = {row["sparsity"]: row["mlm_loss"] for row in before if row["method"] == "tamt"}
    assert along[0.5, 8] == pytest.approx(final[0.5], abs=1e-6)  # after the last step
    imp = {row["sparsity"]: row["mlm_loss"] for row in before if row["method"] == "imp"}
    for one in result["steps_to_equal"]:
        sparsity = one["sparsity"]
        steps = [step for of, step in sorted(along) if of == sparsity]
        reached = [step for step in steps if along[sparsity, step] <= imp[sparsity]]
        assert one["steps"] == min(reached, default=None)
    assert "IMP has after 8" in " ".join(result["sentences"])
    fewer = run(*sweep, "--at-steps", "8,10")
    assert "once more" not in fewer.err
    assert {one["step"] for one in json.loads(fewer.out)["at_steps"]} == {8, 10}


@pytest.mark.slow
def test_a_budget_in_seconds_is_what_imp_took(run: Run, sweep: list[object]) -> None:
    sweep += ["--methods", "tamt-mlm,imp", "--prune-every", "20"]
    assert run(*sweep).code == 0  # with as many steps: these mask trainings are others
    sweep += ["--budget", "seconds"]
    assert "2 of 4 runs to do" in run(*sweep, "--dry-run").out
    done = run(*sweep, "--json")
    assert done.code == 0, done.err
    rows = {(r["method"], r["sparsity"]): r for r in json.loads(done.out)["results"]}
    for sparsity in (0.5, 0.7):
        tamt, imp = rows["tamt", sparsity], rows["imp", sparsity]
        assert 0 < tamt["seconds"] < 1.2 * imp["seconds"]
        assert tamt["steps"] > 1
        config = json.loads((Path(tamt["ticket"]).parent / "config.json").read_text())
        assert config["max_minutes"] * 60 == pytest.approx(imp["seconds"])
        report = (Path(json.loads(done.out)["folder"]) / "report.md").read_text()
        assert f"{tamt['steps']:,} steps of 4 × 16 tokens at most" in report
    assert "0 of 4 runs to do" in run(*sweep, "--dry-run").out  # the budget stays what it was
    finished = runs()
    assert run(*sweep).code == 0
    assert runs() == finished


def test_one_search_gives_the_other_sparsities(run: Run, sweep: list[object]) -> None:
    done = run(*sweep, "--methods", "tamt-mlm,magnitude", "--keep-scores", "--json")
    assert done.code == 0, done.err
    result = json.loads(done.out)
    losses = {row["sparsity"]: row["mlm_loss"] for row in result["results"] if row["seed"] == 1}
    derived = result["derived"]
    assert [(one["searched"], one["sparsity"]) for one in derived] == [(0.5, 0.7), (0.7, 0.5)]
    for one in derived:
        cost = one["loss"] - losses[one["sparsity"]]
        assert one["cost"]["value"] == pytest.approx(cost)
        assert one["cost"]["low"] <= cost <= one["cost"]["high"]
    assert "One search for many sparsities" in (Path(result["folder"]) / "report.html").read_text()


def test_tasks_are_fine_tuned_and_correlated(run: Run, sweep: list[object], sst2: Path) -> None:
    sweep += ["--methods", "tamt-mlm,magnitude", "--tasks", "sst2", "--data-dir", sst2]
    sweep += ["--task-learning-rate", "1e-2", "--task-epochs", "1"]
    done = run(*sweep, "--task-seeds", "1,2", "--json")
    assert done.code == 0, done.err
    result = json.loads(done.out)
    fine_tuned = [json.loads(f.read_text()) for f in Path("runs").glob("finetune-*/config.json")]
    assert {(one["learning_rate"], one["epochs"]) for one in fine_tuned} == {(1e-2, 1)}
    assert all(0 <= row["sst2_accuracy"] <= 1 for row in result["results"])
    assert len({row["ticket"] for row in result["results"]}) == 5  # one-shot ones, too; dense: none
    assert result["correlations"]["sst2"].keys() == {"mlm", "kd"}
    for found in result["correlations"]["sst2"].values():  # two methods are too few to rank
        assert found["within"] == {"0.5": None, "0.7": None}
        mean = found["mean_rank_correlation_within_sparsities"]
        assert (mean["value"], mean["low"]) == (None, None)
        assert mean["why_none"] == "too few to tell (2 methods; 4 are needed)"
    assert sum("too few to tell (2 methods" in s for s in result["sentences"]) == 2
    measures = {one["measure"] for one in result["differences"]}
    assert measures == {"mlm", "kd", "sst2"}
    assert (Path(result["folder"]) / "figures" / "score.png").exists()
    again = run(*sweep, "--task-seeds", "1,2", "--json")
    assert json.loads(again.out)["results"] == result["results"]


def test_every_mask_finds_its_rate(run: Run, sweep: list[object], sst2: Path) -> None:
    sweep += ["--sparsity", "0.5", "--methods", "magnitude", "--tasks", "sst2"]
    sweep += ["--data-dir", sst2, "--task-epochs", "1", "--find-task-learning-rate"]
    planned = run(*sweep, "--dry-run")
    assert planned.code == 0, planned.err
    done = run(*sweep, "--json")
    assert done.code == 0, done.err
    result = json.loads(done.out)
    found = [json.loads(f.read_text()) for f in Path("runs").glob("finetune-*/result.json")]
    rates = {row["sst2_learning_rate"] for row in result["results"]}
    assert rates == {one["rate_search"]["learning_rate"] for one in found}
    assert len(found) == len(result["results"])
    assert len(re.findall("learning rate .* is taken", done.err)) == len(found)  # also equal ones
    said = [s for s in result["sentences"] if "was the best on" in s]
    assert len(said) == len(rates)
    assert all(any(f"sst2: the rate {rate:g}" in s for s in said) for rate in rates)
    refused = run(*sweep, "--task-learning-rate", "1e-3")
    assert refused.code == 2
    assert "either --task-learning-rate or --find-task-learning-rate" in refused.err


def test_a_training_that_diverges_leaves_the_others_their_scores(
    run: Run, sweep: list[object], sst2: Path
) -> None:
    sweep += ["--sparsity", "0.5", "--methods", "magnitude,random", "--tasks", "sst2"]
    sweep += ["--data-dir", sst2, "--task-epochs", "1", "--find-task-learning-rate"]
    assert run(*sweep, "--shard", "2/3").code == 0  # of magnitude
    (folder,) = Path("runs").glob("finetune-*magnitude*")
    rates = json.loads((folder / "learning-rates.json").read_text())
    diverged = {rate: {"score": None, "resampled": None} for rate in rates}
    (folder / "learning-rates.json").write_text(json.dumps(diverged))
    (folder / "result.json").unlink()
    shutil.rmtree(folder / "seed-1")
    done = run(*sweep, "--json")
    assert done.code == 0, done.err
    assert "diverged with every learning rate" in done.err
    assert "it goes on without this score" in done.err
    result = json.loads(done.out)
    scored = {row["name"] for row in result["results"] if "sst2_accuracy" in row}
    assert scored == {"dense", "random seed 1", "random seed 2", "random seed 3"}
    said = "sst2, magnitude at 0.5: the training diverged, so that there is no score"
    assert said in result["sentences"]
    told = next(iter(Path(result["folder"]).glob("report.md"))).read_text()
    assert any("| magnitude |" in row and "| diverged |" in row for row in told.splitlines())


def test_a_model_that_has_changed_is_named_or_all_is_done_anew(
    run: Run, sweep: list[object], sst2: Path, tiny_model: Path
) -> None:
    own = Path("own")
    shutil.copytree(tiny_model, own)
    sweep += ["--sparsity", "0.5", "--methods", "magnitude", "--tasks", "sst2", "--model", own]
    sweep += ["--data-dir", sst2, "--task-epochs", "1"]
    assert run(*sweep).code == 0
    tiny.save(own, "bert", seed=1)
    for refused in (run(*sweep, "--dry-run"), run(*sweep)):
        assert refused.code == 1
        assert "--force" in refused.err
    assert run(*sweep, "--force").code == 0


def test_a_sweep_of_a_recipe_with_several_texts_can_be_asked_for_again(
    run: Run, text_file: Path, tiny_model: Path
) -> None:
    texts = f'["{text_file}"]'
    Path("texts.toml").write_text(f"sequence-length = 16\ncorpus = {texts}\nheld-out = {texts}\n")
    words = (
        "compare --sparsity 0.5 --recipe texts.toml --methods magnitude --blocks 8 --json".split()
    )
    first, again = (run(*words, "--model", tiny_model, "--device", "cpu") for _ in range(2))
    assert (first.code, again.code) == (0, 0), again.err
    assert json.loads(first.out)["results"] == json.loads(again.out)["results"]


def test_a_seed_in_the_table_of_a_method_is_that_methods(
    run: Run, text_file: Path, tiny_model: Path
) -> None:
    Path("seeded.toml").write_text(f"{RECIPE}\n[tamt]\nseed = 3\n")
    words = "compare --sparsity 0.5 --recipe seeded.toml --blocks 8 --prune-every 1 --json"
    inputs = ["--model", tiny_model, "--corpus", text_file, "--device", "cpu"]
    done = run(*words.split(), "--methods", "tamt-mlm,magnitude,random", *inputs)
    assert done.code == 0, done.err
    told = json.loads(done.out)
    assert {row["seed"] for row in told["results"] if row["method"] == "tamt"} == {3}
    (report,) = Path("runs").glob("compare-*/report.html")
    assert report.read_text().count("TAMT-MLM at 0.5</") == 1  # among the settings


@pytest.mark.parametrize(
    ("tasks", "has_kd"), [((), False), (("sst2",), True), (("stsb-zero-shot",), False)]
)
def test_before_fine_tuning_both_objectives_of_the_paper_are_compared(
    tasks: tuple[str, ...], has_kd: bool
) -> None:
    config = CompareConfig(sparsities=[0.5], tasks=tasks)
    found = [cell.facts.label for cell in config.cells()]
    assert found[0] == "TAMT-MLM"
    assert ("TAMT-KD" in found) == has_kd


def test_a_task_of_your_own_stands_beside_a_known_one(
    run: Run, sweep: list[object], sst2: Path
) -> None:
    texts = itertools.product(("the", "of"), ("file", "a", "in"), ("list", "string"))
    rows = [f"{' '.join(text)},{text[-1]}" for text in texts] * 3
    own = Path("own.csv")
    own.write_text("\n".join(["review,topic", *rows]))
    sweep += ["--methods", "magnitude", "--tasks", "sst2,topics", "--data-dir", sst2]
    sweep += ["--train", own, "--task-text-column", "review", "--label-column", "topic"]
    done = run(*sweep, "--task-epochs", "1", "--json")
    assert done.code == 0, done.err
    assert done.err.count("there is no --dev") == 1  # though it is a note of every fine-tuning
    first = json.loads(done.out)
    assert all({"sst2_accuracy", "topics_accuracy"} <= row.keys() for row in first["results"])
    assert "topics: always answering 'list' has accuracy 0.500" in first["sentences"]
    assert "topics (accuracy)" in (Path(first["folder"]) / "report.md").read_text()
    own.write_text("\n".join(["review,topic", *rows, "the list of string,list"]))
    again = run(*sweep, "--task-epochs", "1")
    assert again.code == 1
    assert "the data of topics changed since" in again.err


def test_predictions_that_are_not_those_of_a_score_are_refused(
    run: Run, sweep: list[object], sst2: Path
) -> None:
    sweep += ["--sparsity", "0.5", "--methods", "magnitude", "--tasks", "sst2"]
    sweep += ["--data-dir", sst2, "--task-epochs", "1"]
    assert run(*sweep).code == 0
    file = next(Path("runs").glob("finetune-*/seed-1/predictions.jsonl"))
    rows = file.read_text().splitlines()
    wrong = [row for row in map(json.loads, rows) if row["prediction"] != row["label"]]
    without = [json.dumps(row) for row in map(json.loads, rows) if row not in wrong[:1]]
    for damaged, why in (
        ("\n".join(without), "are not those of its score"),
        (file.read_text()[:-9], "is damaged"),
        ("", "are not those of its score"),
    ):
        file.write_text(damaged)
        done = run(*sweep)
        assert done.code == 1
        assert f"{why}; --force fine-tunes again" in done.err
    assert run(*sweep, "--force").code == 0
    assert len(file.read_text().splitlines()) == len(rows)


def test_a_log_that_cannot_be_read_is_empty(tmp_path: Path) -> None:
    good = {"step": 1, "terms": {"mlm": 2.0}, "flips": 0.5, "seconds": 3.0, "eval_losses": {}}
    found: Any = SimpleNamespace(run_folder=tmp_path)
    for line, steps in ((good, [1]), ({"step": 2}, []), ([1], []), ({**good, "flips": None}, [])):
        (tmp_path / "metrics.jsonl").write_text(json.dumps(line))
        assert list(SearchLog.of(found).seconds) == steps


def test_a_plan_has_what_is_left_of_fine_tuning(run: Run, sweep: list[object], sst2: Path) -> None:
    sweep += ["--methods", "magnitude", "--tasks", "sst2", "--data-dir", sst2]
    sweep += ["--task-epochs", "1"]

    def left(*more: str) -> dict[str, tuple[str, bool]]:
        planned = json.loads(run(*sweep, "--dry-run", "--json", *more).out)["runs"]
        return {one["cell"]: (one["state"], one["task_seconds"] > 0) for one in planned}

    cells = ["dense", "magnitude at 0.5", "magnitude at 0.7"]
    assert left() == dict.fromkeys(cells, ("to do", True))
    part = run(*sweep, "--shard", "2/3")
    assert part.code == 0, part.err
    assert left() == dict.fromkeys(cells, ("to do", True)) | {cells[1]: ("done", False)}
    shown = run(*sweep, "--dry-run")
    assert "2 of 3 runs to do, training about 0 s, fine-tuning about " in shown.out
    (seed,) = Path("runs").glob("finetune-*/seed-1")
    shutil.rmtree(seed)
    assert left()[cells[1]] == ("damaged", False)
    assert left("--force")[cells[1]] == ("to do", True)
    assert "--force redoes it" in run(*sweep, "--shard", "2/3").err
    assert run(*sweep, "--shard", "2/3", "--force").code == 0
    assert left()[cells[1]] == ("done", False)


def test_a_model_without_head_is_compared_by_kd(
    run: Run, text_file: Path, sst2: Path, tmp_path: Path
) -> None:
    bare = tiny.save(tmp_path / "bare", "bert", with_head=False)
    words = "compare --sparsity 0.5 --recipe tiny.toml --blocks 12 --device cpu --json".split()
    done = run(*words, "--model", bare, "--corpus", text_file)
    assert done.code == 0, done.err
    rows = json.loads(done.out)["results"]
    assert [row["method"] for row in rows] == [
        "dense", "tamt", "fisher-kd", "obs", "wanda", "magnitude", *["random"] * 3
    ]  # fmt: skip
    assert all("mlm_loss" not in row and "kd_loss" in row for row in rows)
    tasks = ["--tasks", "sst2", "--data-dir", sst2, "--task-epochs", "1"]
    tasks += ["--task-learning-rate", "1e-9"]
    done = run(*words, "--model", bare, "--corpus", text_file, *tasks)  # of one-shot masks, too
    assert done.code == 0, done.err
    result = json.loads(done.out)
    assert all("sst2_accuracy" in row for row in result["results"])
    assert any(s.startswith("sst2: always answering '") for s in result["sentences"])
    untrained = [s for s in result["sentences"] if ": seed 1 did not train" in s]
    (dense,) = [s for s in untrained if s.startswith("sst2, dense")]
    assert dense.endswith("; try another --task-learning-rate, more --task-epochs, or a larger "
                          "--limit")  # fmt: skip
    report = Path(result["folder"], "report.md").read_text().replace("\\", "")
    assert dense in report
    assert "did not train: other rates or more epochs may change the order." in report
    refused = run(*words, "--model", bare, "--corpus", text_file, "--methods", "imp,magnitude")
    assert (refused.code, "imp needs a masked-LM head" in refused.err) == (2, True)


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        ("", 2, "give tickets to compare, or --sparsity"),
        ("nano-0.7 --sparsity 0.5", 2, "give tickets to compare, or --sparsity"),
        ("nano-0.7 --methods imp", 2, "--methods is for a sweep"),
        ("nano-0.7 --shard 1/2", 2, "--shard is for a sweep"),
        ("nano-0.77", 1, "packaged are"),
        ("--sparsity 0.5,0.7 --methods tamt-mlm,magnitud", 2, "did you mean magnitude"),
        ("--sparsity 0.5 --methods lamp", 2, "or tamt with a sum of objectives such as"),
        ("--sparsity 0.5 --tasks sst", 2, "did you mean sst2"),
        ("--sparsity 0.5 --train own.csv", 2, "give it a name among the --tasks"),
        ("--sparsity 0.5 --train own.csv --tasks sst2", 2, "give it a name among the --tasks"),
        ("--sparsity 0.5 --dev own.csv --tasks own", 2, "--train is needed, too"),
        ("--sparsity 0.5 --train own.csv --tasks own,more", 2, "--tasks must be one of"),
        ("--sparsity 0.5 --train own.csv --tasks own", 1, "no file 'own.csv'; check --train"),
        ("--sparsity 0.5 --task-epochs 0", 2, "--task-epochs must be greater than 0, got 0"),
        ("--sparsity 0.5 --limit -1", 2, "--limit must be greater than 0"),
        ("--sparsity 0.5,x", 2, "--sparsity must be numbers between commas"),
        ("--sparsity 70", 2, "did you mean 0.7"),
        ("--sparsity 0.1", 2, "no equal budget"),
        ("--sparsity 0.5 --seeds 1,1", 2, "--seeds has 1 twice"),
        ("--sparsity 0.5 --budget minutes", 2, "--budget must be one of steps, seconds"),
        ("--sparsity 0.5 --budget seconds --methods tamt-kd", 2, "give it among the --methods"),
        ("--sparsity 0.5 --budget seconds --shard 1/2", 2, "--shard cannot know"),
        ("--sparsity 0.5 --at-steps 0,5", 2, "--at-steps must be at least 1"),
        ("--sparsity 0.5 --at-steps 50,900", 2, "--at-steps 900 is beyond the 160 steps"),
        ("--sparsity 0.5 --at-steps 5 --methods imp", 2, "are of mask training"),
        ("nano-0.7 nano-0.7", 2, "ticket 'nano-0.7' is given twice; give it once"),
        ("nano-0.7 --at-steps 5", 2, "--at-steps is for a sweep"),
        ("nano-0.7 --budget seconds", 2, "--budget is for a sweep"),
        ("nano-0.7 --seeds 1", 2, "--seeds is for a sweep"),
        ("--sparsity 0.5 --shard 3/2", 2, "--shard must be like 2/8"),
        ("--sparsity 0.5 --recipe steps.toml", 2, "give its --prune-every"),
        ("--sparsity 0.5 --recipe none.toml", 2, "must be one of nano, fast, paper"),
    ],
)
def test_a_bad_request_is_refused_in_one_line(
    words: str, code: int, message: str, run: Run
) -> None:
    Path("steps.toml").write_text("steps = 100")
    done = run("compare", *words.split())
    assert done.code == code
    assert message in done.err
    assert done.err.count("\n") == 1
    assert not Path("runs").exists()


def test_tickets_of_different_models_are_refused(
    run: Run, tiny_model: Path, tmp_path: Path
) -> None:
    other = tiny.save(tmp_path / "other", "bert", seed=1)
    for model, name in ((tiny_model, "one"), (other, "two")):
        ticket_for(model, tmp_path / name)
    done = run("compare", "one", "two")
    assert done.code == 1
    assert "compare tickets of one model" in done.err
    assert not Path("runs").exists()


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_the_papers_order_holds_on_nano(run: Run) -> None:
    """Trained masks beat iterative pruning, which beats magnitude; each has its own loss lowest."""
    methods = "tamt-mlm,tamt-kd,imp,magnitude,random"
    sweep = f"compare --recipe nano --sparsity 0.7 --methods {methods} --device cpu --json"
    done = run(*sweep.split())
    assert done.code == 0, done.err
    mlm, kd = (
        {
            f"{row['method']}-{row['objective']}": row[f"{term}_loss"]
            for row in json.loads(done.out)["results"]
            if row["sparsity"] == 0.7 and row["seed"] in (None, 1)
        }
        for term in ("mlm", "kd")
    )
    assert min(mlm, key=lambda name: mlm[name]) == "tamt-mlm"
    assert mlm["tamt-mlm"] < mlm["imp-mlm"] < mlm["magnitude-None"] < mlm["random-None"]
    assert min(kd, key=lambda name: kd[name]) == "tamt-kd"


def test_a_sweep_with_budgets_says_what_embeddings_and_layers_have(
    run: Run, tiny_model: Path, text_file: Path
) -> None:
    words = "compare --sparsity 0.7 --recipe tiny.toml --blocks 12 --device cpu --json".split()
    words += ["--methods", "tamt-mlm,tamt-kd,imp,obs,magnitude,random"]
    words += ["--allocation", "global", "--budget-criterion", "fisher"]
    done = run(*words, "--model", tiny_model, "--corpus", text_file)
    assert done.code == 0, done.err
    found = json.loads(done.out)
    rows = found["results"][1:]
    assert {row["among"] for row in rows} == {"global"}
    # All keep as many weights in each matrix, whatever found them, and not alike in all of them.
    counts = set()
    for row in rows:
        ticket = Ticket.load(Path(row["ticket"]))
        counts.add(tuple(entry.kept / entry.numel for entry in ticket.parameters.values()))
    assert len(counts) == 1
    (shares,) = counts
    assert max(shares) - min(shares) > 0.1
    report = Path(found["folder"], "report.md").read_text()
    assert "sparsity of embeddings" in report
    assert "sparsity of layers" in report
    # The criteria stand beside the same with uniform, each with the sparsities that it has.
    for one in found["two_budgets"]:
        (own,) = (row["ticket"] for row in rows if row["method"] == one["method"])
        parts = one["budgets"]["global"]["sparsities"]
        assert parts == Ticket.load(Path(own)).sparsities
        assert one["budgets"]["uniform"]["sparsities"] == {}
        assert f" | {parts['embeddings']:.3f} | {parts['layers']:.3f} |\n" in report
    assert {"tamt-mlm", "obs"} & {one["method"].lower() for one in found["costs"]}
    refused = run("compare", "nano-0.7", "--allocation", "global")
    assert (refused.code, "--allocation is for a sweep" in refused.err) == (2, True)


def test_a_recipe_may_say_where_the_zeros_are(working_folder: None) -> None:
    Path("global.toml").write_text('allocation = "global"\nfloor = 0.3\n')
    config = CompareConfig(sparsities=(0.5,), recipe="global.toml")
    searches = [config.search_config(cell) for cell in config.cells()]
    assert {(one.allocation, one.floor, one.steps) for one in searches} == {("global", 0.3, 160)}
