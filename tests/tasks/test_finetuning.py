"""Fine-tuning: pruned weights stay zero in every family, seeds, subsets, resuming, refusals."""

from __future__ import annotations

import json
import math
import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
import pytest
import tiny
import torch
from masks import magnitude_masks
from models_left import no_model_is_left
from samples import examples_file, own_config, squad_folder, ticket_for
from small_search import small_config
from transformers import (
    AutoModelForQuestionAnswering,
    AutoModelForSequenceClassification,
    PreTrainedModel,
)

from tamtctl.cli import app as cli
from tamtctl.data.padded_batches import Features
from tamtctl.foundations.errors import (
    DamagedRunError,
    DivergedError,
    ModelError,
    TamtctlError,
    TaskError,
    TicketError,
    UsageError,
)
from tamtctl.models.encoder import maskable_matrices
from tamtctl.models.loading import load_encoder
from tamtctl.pruning.searching.api import search
from tamtctl.tasks.examples import Answers
from tamtctl.tasks.finetuning.api import finetune
from tamtctl.tasks.finetuning.config import FinetuneConfig
from tamtctl.tasks.finetuning.sparse_adam import SparseTraining
from tamtctl.tasks.finetuning.starting_point import with_default_ticket
from tamtctl.tasks.kinds.loading import load_for_training
from tamtctl.tasks.kinds.span import best_span
from tamtctl.tasks.kinds.windows import span_windows
from tamtctl.tasks.registry import own_task
from tamtctl.ticket.ticket import Ticket

WORDS = tiny.WORDS


pytestmark = pytest.mark.usefixtures("working_folder")


# --- pruned weights --------------------------------------------------------------------------


@pytest.mark.parametrize("family", tiny.FAMILIES)
def test_pruned_weights_are_exactly_zero_after_every_step_and_in_the_checkpoint(
    family: str, tmp_path: Path
) -> None:
    tiny.save(tmp_path / "model", family)
    ticket = Ticket.load(ticket_for(tmp_path / "model", tmp_path / "ticket"))
    task = replace(own_task("own", ("text",), "label", "classification"), labels=("a", "b"))
    model, _ = load_for_training(task, str(tmp_path / "model"))
    pruned = {name: ~ticket.mask(name) for name in ticket.apply(model).applied}
    assert len(pruned) >= 8
    before = {name: p.detach().clone() for name, p in maskable_matrices(model).items()}
    training = SparseTraining(model, pruned, learning_rate=1e-2, steps=4)
    model.train()
    for step in range(4):
        output = model(input_ids=torch.randint(5, 60, (4, 12)), labels=torch.tensor([0, 1, 0, 1]))
        output.loss.backward()
        training.step(step)
        for name, matrix in maskable_matrices(model).items():
            if name in pruned:
                assert not matrix.detach()[pruned[name]].any(), (name, step)
    moved = [n for n, p in maskable_matrices(model).items() if not torch.equal(p, before[n])]
    assert len(moved) == len(before)  # what is left of every matrix is trained

    config = own_config(tmp_path / "model", ticket=str(tmp_path / "ticket"))
    result = finetune(config)
    checkpoint = AutoModelForSequenceClassification.from_pretrained(result.checkpoint[0])
    assert_pruned(checkpoint, ticket)
    assert result.sparsity == pytest.approx(0.5, abs=0.01)


@pytest.mark.parametrize("family", tiny.FAMILIES)
def test_the_same_under_a_question_answering_head(family: str, tmp_path: Path) -> None:
    tiny.save(tmp_path / "model", family)
    ticket_for(tmp_path / "model", tmp_path / "ticket")
    config = FinetuneConfig(
        task="squad",
        data_dir=str(squad_folder(tmp_path / "squad")),
        ticket=str(tmp_path / "ticket"),
        epochs=1,
        learning_rate=1e-2,
        threads=1,
    )
    result = finetune(config)
    checkpoint = AutoModelForQuestionAnswering.from_pretrained(result.checkpoint[0])
    assert_pruned(checkpoint, Ticket.load(tmp_path / "ticket"))
    assert result.metrics.keys() == {"f1", "exact_match"}
    rows = read_rows(result.checkpoint[0])
    assert [row["id"] for row in rows] == [f"q{i}" for i in range(6)]
    assert rows[0]["label"] == ["a list"]


def assert_pruned(model: PreTrainedModel, ticket: Ticket) -> None:
    matrices = maskable_matrices(model)
    checked = [name for name in ticket.parameters if name in matrices]
    assert len(checked) >= 8
    for name in checked:
        weight = matrices[name].detach()
        assert not weight[~ticket.mask(name)].any(), name
        assert weight[ticket.mask(name)].any(), name


def read_rows(checkpoint: Path) -> list[dict[str, Any]]:
    lines = (checkpoint / "predictions.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]


@pytest.fixture(scope="module")
def ticket(bare_bert: Path) -> Path:
    return ticket_for(bare_bert, bare_bert.parent / "ticket")


def test_a_pooler_of_the_checkpoint_is_pruned_too(bare_bert: Path, ticket: Path) -> None:
    result = finetune(own_config(bare_bert, ticket=str(ticket)))
    model = AutoModelForSequenceClassification.from_pretrained(result.checkpoint[0])
    pooler = model.base_model.pooler.dense.weight.detach()
    assert torch.equal(pooler == 0, ~Ticket.load(ticket).mask("pooler.dense.weight"))


@pytest.mark.parametrize("allocation", ["global", "by-type"])
def test_a_pooler_outside_of_the_budgets_is_fine_tuned_at_the_target_sparsity(
    bare_bert: Path, text_file: Path, tmp_path: Path, allocation: str
) -> None:
    """KD reaches no pooler, but a head reads it: what is left of it is trained."""
    asked = small_config(
        bare_bert, text_file, method="fisher-kd", objective="kd", sparsity=0.7,
        allocation=allocation,
    )  # fmt: skip
    found = search(asked, output_dir=tmp_path / "run").ticket
    ticket = Ticket.load(found)
    name = "pooler.dense.weight"
    before = load_encoder(str(bare_bert), with_head=False).weights
    assert torch.equal(ticket.mask(name), magnitude_masks({name: before[name]}, 0.7)[name])
    shares = {n: ticket.mask(n).float().mean().item() for n in ticket.masks}
    assert len({round(share, 2) for n, share in shares.items() if n != name}) > 1  # budgets
    result = finetune(own_config(bare_bert, ticket=str(found)))
    model = AutoModelForSequenceClassification.from_pretrained(result.checkpoint[0]).base_model
    after = {n: p.detach() for n, p in model.named_parameters() if n in before}
    for matrix in ticket.masks:
        kept = ticket.mask(matrix)
        assert not after[matrix][~kept].any()
    kept = ticket.mask(name)
    assert not torch.isclose(after[name][kept], before[name][kept]).all()


def test_a_ticket_stored_as_a_difference_is_decoded(bare_bert: Path, tmp_path: Path) -> None:
    encoder = load_encoder(str(bare_bert), with_head=False)
    masks = magnitude_masks(encoder.weights, 0.5)
    plain = Ticket.load(ticket_for(bare_bert, tmp_path / "plain"))
    made = Ticket.create(
        encoder.weights,
        masks,
        base_model_id=str(bare_bert),
        revision=None,
        model_type="bert",
        target_sparsity=0.5,
        method="magnitude",
        objective=None,
        search={},
        metrics={},
    ).encode("delta", encoder.weights)
    assert (made.encoding, plain.encoding) == ("delta", "bits")
    made.save_pretrained(tmp_path / "delta")
    result = finetune(own_config(bare_bert, ticket=str(tmp_path / "delta")))
    model = AutoModelForSequenceClassification.from_pretrained(result.checkpoint[0])
    for name, matrix in maskable_matrices(model).items():
        assert not matrix.detach()[~masks[name]].any()


def test_the_gradient_of_pruned_weights_does_not_count_in_clipping(bare_bert: Path) -> None:
    task = replace(own_task("own", ("text",), "label", "classification"), labels=("a", "b"))

    def one_step(poison: float) -> torch.Tensor:
        torch.manual_seed(0)
        model, _ = load_for_training(task, str(bare_bert))
        matrix = maskable_matrices(model)["encoder.layer.0.output.dense.weight"]
        pruned = torch.zeros_like(matrix, dtype=torch.bool)
        pruned[0] = True
        with torch.no_grad():
            matrix[pruned] = 0
        training = SparseTraining(
            model, {"encoder.layer.0.output.dense.weight": pruned}, learning_rate=1e-3, steps=9
        )
        for parameter in model.parameters():
            parameter.grad = torch.full_like(parameter, 1e-8)
        assert matrix.grad is not None
        matrix.grad[pruned] = poison
        training.step(0)
        return matrix.detach().clone()

    assert torch.equal(one_step(0.0), one_step(1e6))


def test_a_finished_seed_leaves_no_model_in_memory(bare_bert: Path) -> None:
    finetune(own_config(bare_bert, dense=True, ticket=None))  # imports, whose errors hold frames
    with no_model_is_left():
        finetune(own_config(bare_bert, dense=True, ticket=None, seeds=(2, 3)))


# --- protocol --------------------------------------------------------------------------------


def test_a_run_learns_and_says_everything(bare_bert: Path, ticket: Path) -> None:
    config = own_config(bare_bert, ticket=str(ticket), epochs=15, seeds=(1, 2))
    result = finetune(config)
    assert result.metric == "accuracy"
    assert min(result.scores) > 0.8
    assert result.scores == result.metrics["accuracy"].scores
    assert result.mean == pytest.approx(sum(result.scores) / 2)
    first, second = result.scores
    assert result.std == pytest.approx(abs(first - second) / math.sqrt(2))
    assert not result.dev_selected
    assert json.loads((result.run_folder / "result.json").read_text()) == result.to_dict()

    facts = json.loads((result.checkpoint[1] / "metrics.json").read_text())
    assert facts["seed"] == 2
    assert facts["scores"]["accuracy"] == second
    assert facts["config"]["learning_rate"] == 1e-2
    assert facts["environment"]["torch"] == torch.__version__
    assert facts["ticket"]["base_model"]["fingerprint"] == facts["model"]["fingerprint"]
    assert facts["data"]["train"]["examples"] == 24
    rows = read_rows(result.checkpoint[0])
    assert first == sum(row["prediction"] == row["label"] for row in rows) / len(rows)
    assert sum(rows[0]["confidence"].values()) == pytest.approx(1)


def test_a_seed_decides_everything(bare_bert: Path, tmp_path: Path) -> None:
    config = own_config(bare_bert, dense=True, seeds=(5, 6))
    one = finetune(config, output_dir=tmp_path / "one")
    two = finetune(config, output_dir=tmp_path / "two")
    files = [folder / "model.safetensors" for folder in (*one.checkpoint, *two.checkpoint)]
    contents = [file.read_bytes() for file in files]
    assert contents[0] == contents[2]
    assert contents[1] == contents[3]
    assert contents[0] != contents[1]
    assert one.sparsity == 0
    assert one.std is not None


def test_regression_and_a_constant_prediction(bare_bert: Path) -> None:
    rows = [json.dumps({"text": word, "label": i / 7}) for i, word in enumerate(WORDS)]
    Path("numbers.jsonl").write_text("\n".join(rows))
    changes = {"train": "numbers.jsonl", "dev": "numbers.jsonl", "dense": True}
    result = finetune(own_config(bare_bert, **changes, epochs=30))
    assert result.metrics["pearson"].mean > 0.3
    model = AutoModelForSequenceClassification.from_pretrained(result.checkpoint[0])
    assert model.config.num_labels == 1


def test_the_best_epoch_is_labelled_as_selected_on_the_dev_set(bare_bert: Path) -> None:
    config = own_config(bare_bert, dense=True, epochs=4)
    last, best = finetune(config), finetune(replace(config, select="best"))
    assert (last.dev_selected, best.dev_selected) == (False, True)
    assert last.run_folder != best.run_folder
    facts = json.loads((best.checkpoint[0] / "metrics.json").read_text())
    assert facts["dev_selected"] is True
    epochs = [scores["accuracy"] for scores in facts["epoch_scores"]]
    assert len(epochs) == 4
    assert best.mean == max(epochs)
    assert last.mean == epochs[-1]  # looking at the dev set does not disturb training


def test_an_interrupted_run_goes_on_with_the_next_seed(bare_bert: Path) -> None:
    class Interrupt:
        def status(self, message: str) -> None:
            if message == "seed 2":
                raise KeyboardInterrupt

        def note(self, message: str) -> None: ...
        def plan(self, plan: object) -> None: ...
        def progress(self, report: object) -> None: ...

    config = own_config(bare_bert, dense=True, seeds=(1, 2))
    with pytest.raises(KeyboardInterrupt):
        finetune(config, watcher=Interrupt())
    (folder,) = Path("runs").iterdir()
    first = (folder / "seed-1" / "model.safetensors").stat()
    result = finetune(config)
    assert (result.resumed_from, result.already_done) == (1, False)
    assert (folder / "seed-1" / "model.safetensors").stat() == first
    assert sorted(path.name for path in folder.iterdir()) == [
        "config.json",
        "identity.json",
        "result.json",
        "seed-1",
        "seed-2",
    ]
    # It may have been killed just before a complete seed got its name.
    last = (folder / "seed-2" / "model.safetensors").stat()
    (folder / "result.json").unlink()
    (folder / "seed-2").rename(folder / ".seed-2.unfinished")
    found = finetune(config)
    assert found.scores == result.scores
    assert (folder / "seed-2" / "model.safetensors").stat() == last
    again = finetune(config)
    assert again.already_done
    assert replace(again, already_done=False) == found
    redone = finetune(config, force=True)
    assert (redone.resumed_from, redone.already_done) == (0, False)
    assert redone.scores == result.scores
    assert (folder / "seed-1" / "model.safetensors").stat().st_mtime_ns > first.st_mtime_ns


def test_other_data_or_another_ticket_is_another_run(bare_bert: Path, ticket: Path) -> None:
    config = own_config(bare_bert, ticket=str(ticket))
    first = finetune(config).run_folder
    assert finetune(config).already_done
    own = Path("own.jsonl")
    own.write_text(own.read_text() + "\n\n")
    second = finetune(config).run_folder
    ticket_for(bare_bert, Path("mine"))
    other = replace(config, ticket="mine")
    third = finetune(other).run_folder
    ticket_for(bare_bert, Path("mine"), sparsity=0.6)
    assert len({first, second, third, finetune(other).run_folder}) == 4


def test_without_a_ticket_the_newest_of_the_runs_is_taken(bare_bert: Path) -> None:
    config = own_config(bare_bert)
    with pytest.raises(TamtctlError, match=r"no ticket of model .* at hand"):
        with_default_ticket(config)
    for name in ("b", "a"):
        ticket_for(bare_bert, Path("runs") / name / "ticket")
    chosen, line = with_default_ticket(config)
    assert chosen.ticket == "runs/a/ticket"
    assert "newest under runs/" in line
    dense, line = with_default_ticket(replace(config, dense=True, model=None))
    assert (dense.ticket, dense.model) == (None, str(bare_bert))
    assert "dense" in line
    assert finetune(config).ticket == "runs/a/ticket"


def test_a_seed_loads_its_model_once_and_a_run_decodes_each_mask_once(
    bare_bert: Path, ticket: Path
) -> None:
    called: Counter[str] = Counter()

    def count(frame: FrameType, event: str, _: object) -> None:
        if event == "call" and "tamtctl" in frame.f_code.co_filename:
            called[frame.f_code.co_qualname] += 1

    config = own_config(bare_bert, ticket=str(ticket), seeds=(1, 2))
    sys.setprofile(count)
    try:
        result = finetune(config)
    finally:
        sys.setprofile(None)
    matrices = len(Ticket.load(ticket).parameters)
    assert called["load_with_head"] == called["apply"] == len(result.scores) == 2
    assert called["decode_mask"] == matrices
    assert called["sha256_of_weight"] == 2 * matrices  # each model that is loaded is checked
    alone = finetune(replace(config, seeds=(2,)))
    assert alone.scores == result.scores[1:]


# --- features --------------------------------------------------------------------------------


def test_batches_hold_every_example_once_an_epoch_and_little_padding() -> None:
    lengths = np.random.default_rng(0).integers(3, 60, 1000)
    ids = [[7] * int(n) for n in lengths]
    features = Features(ids, None, torch.arange(1000), pad_id=0)
    batches = features.training_batches(32, seed=1)
    epochs = [[next(batches) for _ in range(32)] for _ in range(2)]
    for epoch in epochs:
        assert sorted(row for batch in epoch for row in batch.labels.tolist()) == list(range(1000))
        for batch in epoch:
            width = max(lengths[batch.rows])
            assert batch.input_ids.shape[1] == width
            assert batch.inputs["attention_mask"].sum(1).tolist() == lengths[batch.rows].tolist()
    assert epochs[0][0].labels.tolist() != epochs[1][0].labels.tolist()
    positions = sum(batch.input_ids.numel() for batch in epochs[0])
    assert positions < 1.1 * lengths.sum()
    again = next(features.training_batches(32, seed=1))
    assert torch.equal(again.labels, epochs[0][0].labels)


def test_windows_cover_the_context_and_hold_the_answer() -> None:
    tokenizer = tiny.tokenizer()
    words = [WORDS[i % len(WORDS)] for i in range(70)]
    context = " ".join(words)
    start = len(" ".join(words[:30])) + 1
    answers = Answers((" ".join(words[30:33]),), (start,))
    windows = span_windows(
        ["which one " * 40, "which"],
        [context, context],
        [answers, answers],
        tokenizer,
        max_length=40,
        stride=10,
        takes_types=True,
    )
    assert windows.features.lengths.max() == 40
    for example in (0, 1):
        members = np.flatnonzero(windows.examples == example)
        spans = [windows.offsets[row] for row in members]
        starts = [int(s[s[:, 1] > 0][0, 0]) for s in spans]
        words_before = [len(context[:at].split()) for at in starts]
        assert words_before == list(range(0, 10 * len(members), 10))  # the stride, in tokens
        assert max(int(s[:, 1].max()) for s in spans) == len(context)
        found = 0
        for row in members:
            first, last = windows.features.labels[row].tolist()
            if (first, last) == (0, 0):
                continue
            found += 1
            offsets = windows.offsets[row]
            assert context[offsets[first, 0] : offsets[last, 1]] == answers.texts[0]
        assert found >= 1


def test_the_best_span_is_in_order_short_and_in_the_context() -> None:
    offsets = np.array([[0, 0]] + [[i, i + 1] for i in range(40)] + [[0, 0]], np.int32)
    starts, ends = torch.zeros(42), torch.zeros(42)
    starts[0], ends[41] = 99, 99  # not of the context
    starts[10], ends[5], ends[12] = 5, 9, 3  # 5 comes before 10
    starts[11], ends[41] = 4.5, 99
    first, last, score = best_span(starts, ends, offsets)
    assert (first, last) in {(10, 12), (1, 5), (2, 5), (3, 5), (4, 5), (5, 5)}
    assert score == 9.0
    ends[5] = 0
    assert best_span(starts, ends, offsets) == (10, 12, 8.0)
    ends[12], ends[40] = 0, 8  # 31 tokens from 10 to 40 are too many
    assert best_span(starts, ends, offsets)[:2] == (11, 40)


# --- refusals --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"epochs": 0}, "--epochs must be greater than 0"),
        ({"limit": 0}, "--limit must be greater than 0"),
        ({"learning_rate": 0.0}, "--learning-rate must be greater than 0, got 0.0"),
        ({"learning_rate": math.nan}, "--learning-rate must be a finite number greater than 0"),
        ({"learning_rate": math.inf}, "must be a finite number greater than 0, got inf"),
        ({"seeds": ()}, "--seeds must be one or more"),
        ({"seeds": (1, 1)}, "--seeds has 1 twice"),
        ({"select": "bset"}, "did you mean best"),
        ({"task": "sst2"}, "sst2 is none"),
        ({"task": "../../../esc/x"}, "must be letters, digits, -, _ and .,"),
        ({"task": "two\nlines"}, r"cannot be called 'two\\nlines'"),
        ({"task": "mlm"}, "cannot be called .mlm., which is a measure of evaluate"),
        ({"task": "x" * 65}, "at most 64"),
        ({"train": None}, "--train is needed, too"),
        ({"data_dir": "x"}, "--data-dir is for a known task"),
        ({"text_columns": ("a", "b", "c")}, "given once, or twice"),
        ({"dense": True, "ticket": "x"}, "--dense is without a --ticket"),
        ({"max_length": 3}, "--max-length must be at least 8"),
        ({"ticket": ""}, "--ticket must be not empty"),
    ],
)
def test_configurations_that_are_refused(
    bare_bert: Path, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        own_config(bare_bert, **changes)


def test_what_is_refused_leaves_nothing_behind(
    bare_bert: Path, ticket: Path, tmp_path: Path
) -> None:
    other = tiny.save(tmp_path / "other", "bert", seed=9)
    regression = finetune(own_config(bare_bert, dense=True)).checkpoint[0]
    refusals: list[tuple[type[TamtctlError], str, Callable[[], FinetuneConfig]]] = [
        (TicketError, "does not fit model", lambda: own_config(other, ticket=str(ticket))),
        (TicketError, "does not fit model", lambda: own_config(regression, ticket=str(ticket))),
        (
            TaskError,
            "no column 'x'",
            lambda: own_config(bare_bert, dense=True, text_columns=("x",)),
        ),
        (TaskError, "no column 'y'", lambda: own_config(bare_bert, dense=True, label_column="y")),
        (UsageError, "at most 40", lambda: own_config(bare_bert, dense=True, max_length=41)),
        (ModelError, "neither a folder nor", lambda: own_config(Path("no/model"), dense=True)),
        (TaskError, "no data of sst2", lambda: glue_config(bare_bert, "sst2")),
    ]
    before = sorted(Path("runs").iterdir())
    for error, message, make in refusals:
        with pytest.raises(error, match=message) as raised:
            finetune(make())
        assert "\n" not in str(raised.value)
    assert sorted(Path("runs").iterdir()) == before


def glue_config(model: Path, task: str) -> FinetuneConfig:
    return FinetuneConfig(task=task, dense=True, model=str(model), data_dir=".")


def test_a_loss_that_is_no_number_stops_the_run(bare_bert: Path) -> None:
    with pytest.raises(TamtctlError, match=r"seed 1 training loss became (nan|inf) at step \d+"):
        finetune(own_config(bare_bert, dense=True, learning_rate=1e30, epochs=5))
    assert not list(Path("runs").glob("*/seed-1"))


def test_a_model_that_the_last_step_ruined_is_not_scored(bare_bert: Path) -> None:
    with pytest.raises(DivergedError, match="the model's outputs are not finite"):
        finetune(own_config(bare_bert, dense=True, learning_rate=1e38, batch_size=24))
    assert not list(Path("runs").glob("*/seed-1"))


def test_a_damaged_run_is_named(bare_bert: Path) -> None:
    config = own_config(bare_bert, dense=True, seeds=(1, 2))
    done = finetune(config, output_dir=Path("run"))
    metrics = Path("run/seed-1/metrics.json")
    for file in (metrics, Path("run/seed-2/model.safetensors")):
        assert file.stat().st_mode & 0o077 == 0o044  # others may read
    Path("run").rename("moved")
    moved = finetune(config, output_dir=Path("moved"))
    assert (moved.already_done, moved.scores) == (True, done.scores)
    assert moved.checkpoint == [Path("moved/seed-1"), Path("moved/seed-2")]
    Path("moved").rename("run")
    (Path("run") / "seed-2").rename("elsewhere")
    with pytest.raises(DamagedRunError, match=r"has lost 'run/seed-2'\); --force"):
        finetune(config, output_dir=Path("run"))
    Path("run/result.json").write_text('{"x": 1}')
    with pytest.raises(DamagedRunError, match=r"run in 'run' is damaged \(result.json is not"):
        finetune(config, output_dir=Path("run"))
    Path("run/result.json").unlink()
    for content in ("{bad", "{}"):
        metrics.write_text(content)
        with pytest.raises(DamagedRunError, match=r"'run/seed-1/metrics.json' is damaged; remove"):
            finetune(config, output_dir=Path("run"))
    with pytest.raises(UsageError, match="more than this machine can do with"):
        finetune(replace(config, threads=10**8))


# --- the command -----------------------------------------------------------------------------


def run(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int:
    monkeypatch.setattr(sys, "argv", ["tamtctl", *map(str, arguments)])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    return int(ended.value.code or 0)


def test_the_commands_from_training_to_labelling(
    bare_bert: Path,
    ticket: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    data = examples_file(Path("own.jsonl"))
    files = ("--train", data, "--dev", data)
    options = ("--epochs", 15, "--learning-rate", 0.01, "--batch-size", 8, "--seeds", "1,2")
    command = ("finetune", *files, *options, "--ticket", ticket)
    assert run(monkeypatch, *command, "--json") == 0
    told = capsys.readouterr()
    result = json.loads(told.out)
    assert told.err.startswith(f"ticket {ticket}\n")
    assert len(result["scores"]) == len(result["checkpoint"]) == 2
    assert result["metrics"][result["metric"]]["mean"] == result["mean"]
    assert result["sparsity"] == pytest.approx(0.5, abs=0.01)

    assert run(monkeypatch, *command) == 0
    shown, noted = capsys.readouterr()
    assert "was done before" in noted
    assert f"{result['mean']:.4f}" in shown
    assert run(monkeypatch, *command, "-q") == 0
    assert capsys.readouterr().out == f"{result['mean']:.4f}\n"

    checkpoint = result["checkpoint"][0]
    assert run(monkeypatch, "evaluate", checkpoint, "--json") == 0
    assert json.loads(capsys.readouterr().out)["score"] == pytest.approx(result["scores"][0])
    Path("new.txt").write_text("the of a list\nthe of a file\n")
    assert run(monkeypatch, "evaluate", checkpoint, "--predict", "new.txt", "-q") == 0
    assert capsys.readouterr().out == "list\nfile\n"


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["finetune", "sst3"], 2, "did you mean sst2"),
        (["finetune"], 2, "which task? one of cola"),
        (["finetune", "sst2", "--seeds", "1,b"], 2, "--seeds must be numbers"),
        (["finetune", "sst2", "--ticket", "none"], 1, "no ticket"),
        (
            ["finetune", "sst2", "--dense", "--model", "nano", "--data-dir", "."],
            1,
            "expected train",
        ),
        (["finetune", "sst2", "--dense", "--model", "nano"], 1, "no network"),
        (["finetune", "../x", "--train", "a.csv", "--dev", "a.csv"], 2, "must be letters, digits"),
        (["evaluate", "nano", "--task", "sst3"], 2, "did you mean sst2"),
        (["evaluate", "nano", "--predict", "none.txt"], 2, "give its --task"),
    ],
)
def test_bad_input_is_one_line(
    arguments: list[str],
    code: int,
    message: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert run(monkeypatch, *arguments) == code
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith("error: ")
    assert message in last
