"""What a ticket keeps is trained against the dense model, and its zeros stay zeros."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
from safetensors.torch import load_file
from sentence_models import sentence_model
from small_search import Interrupting, small_config
from torch import Tensor
from transformers import AutoModelForMaskedLM

import tamtctl
from tamtctl.data.sequences import Blocks
from tamtctl.foundations.devices import Compute
from tamtctl.foundations.errors import ChangedInputsError, DamagedRunError, UsageError
from tamtctl.foundations.watching import Silent
from tamtctl.models.loading import load_encoder
from tamtctl.pruning.recovery.api import plan_recovery, recover
from tamtctl.pruning.recovery.config import RecoverConfig
from tamtctl.pruning.recovery.training import SurvivorTraining
from tamtctl.pruning.searching.api import search
from tamtctl.pruning.searching.reading import read_text
from tamtctl.ticket.exporting.checkpoint import write_checkpoint
from tamtctl.ticket.ticket import Ticket

STEPS = 12


@pytest.fixture(scope="module")
def ticket(tiny_model: Path, text_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("ticket") / "run"
    config = small_config(tiny_model, text_file, method="magnitude", sparsity=0.6)
    return search(config, output_dir=run).ticket


def config_of(ticket: Path, **changes: Any) -> RecoverConfig:
    values: dict[str, Any] = {
        "ticket": str(ticket), "steps": STEPS, "batch_size": 4, "learning_rate": 5e-3,
        "evaluation_blocks": 8, "device": "cpu",
    }  # fmt: skip
    return RecoverConfig(**(values | changes))


@pytest.fixture(scope="module")
def recovered(ticket: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    return recover(config_of(ticket), output_dir=tmp_path_factory.mktemp("recovered") / "run")


def test_zeros_stay_and_all_else_is_trained(ticket: Path, tiny_model: Path, recovered: Any) -> None:
    model = AutoModelForMaskedLM.from_pretrained(recovered.model, dtype=torch.float32)
    loaded = Ticket.load(ticket)
    assert loaded.is_applied_to(model)
    dense = AutoModelForMaskedLM.from_pretrained(tiny_model, dtype=torch.float32)
    before = dict(dense.base_model.named_parameters())
    for name, parameter in model.base_model.named_parameters():
        moved = parameter != before[name]
        assert bool(moved.any()), name
        if name in loaded.parameters and "embeddings" not in name:
            assert bool(moved[loaded.mask(name)].any()), name
    head = (model.get_output_embeddings().weight, dense.get_output_embeddings().weight)
    assert torch.equal(*head)  # with the pre-trained head losses are taken


@pytest.mark.parametrize("pattern", ["2:4", "block:4x4", "neurons", "heads"])
def test_zeros_that_the_model_brings_along_are_no_pruned_weights(
    pattern: str, tiny_model: Path, text_file: Path, tmp_path: Path
) -> None:
    """A ticket of some matrices leaves the others dense, and their natural zeros are trained."""
    model = AutoModelForMaskedLM.from_pretrained(tiny_model)
    with torch.no_grad():
        for weight in model.base_model.parameters():
            weight.view(-1)[0] = 0
    base = tmp_path / "model"
    shutil.copytree(tiny_model, base)
    model.save_pretrained(base)
    config = small_config(base, text_file, method="magnitude", pattern=pattern, sparsity=0.5)
    found = search(config, output_dir=tmp_path / "run").ticket
    done = recover(config_of(found, steps=3, learning_rate=1e-2), output_dir=tmp_path / "recovered")
    trained = load_file(done.model / "model.safetensors")
    assert trained["bert.embeddings.position_embeddings.weight"].view(-1)[0] != 0


@pytest.mark.parametrize("family", ["bert", "modernbert", "albert"])
def test_cutting_neurons_out_changes_nothing(family: str, text_file: Path, tmp_path: Path) -> None:
    """Beside a training of the whole model, whose pruned weights get no gradient."""
    model = tiny.save(tmp_path / "model", family)
    wanted = small_config(model, text_file, method="magnitude", pattern="neurons", sparsity=0.5)
    masks = Ticket.load(search(wanted, output_dir=tmp_path / "search").ticket).masks

    def trained(*, are_neurons: bool) -> tuple[int, dict[str, Tensor]]:
        encoder, compute = load_encoder(str(model), with_head=False), Compute.choose("cpu", "fp32")
        config = config_of(
            model, corpus=str(text_file), rows="blocks", objective="kd", sequence_length=16
        )
        asked = config.as_search(str(model), 5)
        _, text, _ = read_text(asked, encoder, Silent())
        assert isinstance(text, Blocks)
        kept = {n: masks.get(n, torch.ones_like(w).bool()) for n, w in encoder.matrices.items()}
        training = SurvivorTraining(asked, compute, encoder, text, kept, are_neurons=are_neurons)
        training.run(lambda report: None, is_due=lambda step: False, after=None)
        count, found = training.trained_weights, training.put_dense()
        dense = load_encoder(str(model), with_head=False).base.named_parameters()
        now = dict(encoder.base.named_parameters())
        assert all(torch.equal(now[name], weight) for name, weight in dense if name in found)
        return count, found

    (fewer, cut), (count, whole) = trained(are_neurons=True), trained(are_neurons=False)
    assert fewer <= count  # biases of pruned neurons are gone
    assert cut.keys() == whole.keys()
    dense = dict(load_encoder(str(model), with_head=False).base.named_parameters())
    for name, weight in cut.items():
        assert not torch.equal(weight, dense[name]), name
        if not name.endswith("bias"):  # those of pruned neurons are 0 or as they were
            torch.testing.assert_close(weight, whole[name], rtol=1e-3, atol=1e-4)


def test_it_is_nearer_to_the_dense_model(recovered: Any) -> None:
    assert recovered.losses["dense"] == 0
    assert recovered.losses["recovered"] < recovered.losses["ticket"]


def test_the_losses_are_those_of_the_checkpoint(
    recovered: Any, ticket: Path, tiny_model: Path, text_file: Path, tmp_path: Path
) -> None:
    """Measured anew by `evaluate`, on the folder as anybody has it, beside the plain export."""
    plain = write_checkpoint(ticket, tmp_path / "plain").path
    for folder, name, dense in (
        (recovered.model, "recovered", None),
        (plain, "ticket", str(tiny_model)),
    ):
        found = tamtctl.evaluate(
            tamtctl.EvaluateConfig(
                name=str(folder), task="kd", model=dense, corpus=(str(text_file),),
                sequence_length=16, blocks=8, held_out_tenth=True, device="cpu",
            )
        )  # fmt: skip
        assert found.score == pytest.approx(recovered.losses[name], abs=1e-6), name


def evaluated(folder: Path, text: Path, **changes: Any) -> tamtctl.Evaluation:
    values = {"task": "kd", "sequence_length": 16, "blocks": 8, "device": "cpu"} | changes
    return tamtctl.evaluate(
        tamtctl.EvaluateConfig(name=str(folder), corpus=(str(text),), **values)  # type: ignore[arg-type]
    )


def test_it_is_measured_on_what_its_training_held_out(
    recovered: Any, ticket: Path, text_file: Path, tmp_path: Path
) -> None:
    moved = tmp_path / "moved.txt"
    shutil.copy(text_file, moved)
    for text in (text_file, moved):  # known by its content
        found = evaluated(recovered.model, text)
        assert found.score == pytest.approx(recovered.losses["recovered"], abs=1e-6)
        said = f"{text.name} (its held-out tenth); its weights were trained on the rest"
        assert str(found.text).endswith(said)
    other = tmp_path / "other.txt"
    other.write_text(text_file.read_text()[: len(text_file.read_text()) // 2])
    assert str(evaluated(recovered.model, other).text).endswith(f"of {other}")
    # A record of an old version has names only.
    model = tmp_path / "old" / "model"
    shutil.copytree(recovered.model, model)
    record = json.loads((model / "recovery.json").read_text())
    del record["trained_on"]
    (model / "pruned.json").unlink()
    (model / "recovery.json").write_text(json.dumps(record))
    said = "(its held-out tenth); its weights were trained on a text so named"
    assert str(evaluated(model, text_file, model=recovered.base_model).text).endswith(said)
    # With held-out text apart, weights were trained on all of the corpus, and the mask was not.
    apart = recover(config_of(ticket, held_out=(str(other),)), output_dir=tmp_path / "apart")
    said = f"of {text_file} (its held-out tenth); its weights were trained on this very text"
    assert str(evaluated(apart.model, text_file).text).endswith(said)


def test_embeddings_that_are_not_masked_leave_the_decoder_as_it_was(
    tiny_model: Path, text_file: Path, tmp_path: Path
) -> None:
    """The losses are taken beside the dense decoder, which a tie would make the trained one."""
    config = small_config(
        tiny_model, text_file, method="magnitude", sparsity=0.5, pattern="neurons", word_floor=0.0
    )
    ticket = search(config, output_dir=tmp_path / "neurons").ticket
    made = recover(config_of(ticket, objective="mlm"), output_dir=tmp_path / "run")
    found = tamtctl.evaluate(
        tamtctl.EvaluateConfig(
            name=str(made.model), task="mlm", corpus=(str(text_file),), sequence_length=16,
            blocks=8, held_out_tenth=True, device="cpu",
        )
    )  # fmt: skip
    assert found.score == pytest.approx(made.losses["recovered"], abs=1e-6)


def test_the_folder_says_of_which_ticket_it_is(recovered: Any, ticket: Path) -> None:
    text = (recovered.model / "recovery.json").read_text()
    told = json.loads(text)
    assert told["ticket"]["name"] == "run"
    assert told["result"]["steps"] == told["recovery"]["steps"] == STEPS
    assert told["result"]["losses"] == recovered.losses
    assert str(ticket.parent) not in text
    assert str(recovered.run_folder.parent) not in text
    assert not (recovered.model / "ticket.json").exists()


def test_another_objective(ticket: Path, tmp_path: Path) -> None:
    found = recover(config_of(ticket, objective="mlm+kd"), output_dir=tmp_path / "run")
    assert found.losses["recovered"] < found.losses["ticket"]


def test_sentence_encoders_are_recovered_for_their_embeddings(
    recovered: Any, text_file: Path, tmp_path: Path
) -> None:
    model = sentence_model(tmp_path / "model", {"pooling_mode_mean_tokens": True})
    config = small_config(model, text_file, method="magnitude", objective="kd", sparsity=0.6)
    mask = search(config, output_dir=tmp_path / "search").ticket
    assert plan_recovery(config_of(mask)).config.objective == "kd+embedding"
    assert plan_recovery(config_of(mask, objective="kd")).config.objective == "kd"
    assert recovered.objective == "kd"


def test_the_same_again_is_found(recovered: Any, ticket: Path) -> None:
    again = recover(config_of(ticket), output_dir=recovered.run_folder)
    assert again.already_done
    assert again.losses == recovered.losses


def test_interrupted_it_ends_with_the_same_bits(
    recovered: Any, ticket: Path, tmp_path: Path
) -> None:
    config = config_of(ticket, checkpoint_every=5)
    with pytest.raises(Interrupting.Ended):
        recover(config, output_dir=tmp_path / "run", watcher=Interrupting(10))
    found = recover(config, output_dir=tmp_path / "run")
    assert found.resumed_from == 5
    whole, pieces = (load_file(one.model / "model.safetensors") for one in (recovered, found))
    assert whole.keys() == pieces.keys()
    assert all(torch.equal(whole[name], pieces[name]) for name in whole)


class Counting(Interrupting):
    def __init__(self, after: int) -> None:
        super().__init__(after)
        self.steps = 0

    def plan(self, plan: Any) -> None:
        self.steps = plan.steps


def test_minutes_are_steps_that_an_interruption_does_not_change(
    ticket: Path, tmp_path: Path
) -> None:
    config = config_of(ticket, steps=None, minutes=0.01)
    killed, interrupted, finished = Counting(after=1), Counting(after=2), Counting(after=10**9)
    with pytest.raises(Interrupting.Ended):  # before anything is saved
        recover(config, output_dir=tmp_path / "run", watcher=killed)
    with pytest.raises(Interrupting.Ended):
        recover(
            replace(config, checkpoint_every=1), output_dir=tmp_path / "run", watcher=interrupted
        )
    found = recover(config, output_dir=tmp_path / "run", watcher=finished)
    assert found.resumed_from == 1
    assert killed.steps == interrupted.steps == finished.steps == found.steps > 1
    by_steps = recover(replace(config, minutes=None, steps=found.steps), output_dir=tmp_path / "s")
    weights = [load_file(one.model / "model.safetensors") for one in (found, by_steps)]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])


def test_another_ticket_in_the_same_place_is_noticed(
    ticket: Path, tiny_model: Path, text_file: Path, tmp_path: Path
) -> None:
    def made(sparsity: float) -> None:
        shutil.rmtree(tmp_path / "search", ignore_errors=True)
        config = small_config(tiny_model, text_file, method="magnitude", sparsity=sparsity)
        search(config, output_dir=tmp_path / "search")

    made(0.5)
    config = config_of(tmp_path / "search" / "ticket", steps=1)
    found = recover(config, output_dir=tmp_path / "run")
    made(0.4)
    with pytest.raises(ChangedInputsError, match="ticket"):
        recover(config, output_dir=tmp_path / "run")
    again = recover(config, output_dir=tmp_path / "run", force=True)
    assert again.sparsity < found.sparsity
    next(again.model.glob("*.safetensors")).unlink()
    with pytest.raises(DamagedRunError, match="--force"):
        recover(config, output_dir=tmp_path / "run")


def test_a_plan_writes_nothing(ticket: Path, tmp_path: Path) -> None:
    plan = plan_recovery(config_of(ticket), output_dir=tmp_path / "run")
    assert plan.steps == STEPS
    assert plan.trained > 0
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("given", [{}, {"steps": 3, "minutes": 1.0}])
def test_how_long_is_asked_for_once(given: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match="--minutes"):
        RecoverConfig(ticket="nano-0.7", **given)


def test_fine_tuning_goes_on_from_it(
    recovered: Any, ticket: Path, run: Callable[..., Any], tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    rows = ({"text": f"{x} is the {y}", "label": y} for y in ("list", "file") for x in "abcdefghij")
    Path("own.jsonl").write_text("\n".join(map(json.dumps, rows)))
    done = run(
        "finetune", "own", "--train", "own.jsonl", "--dev", "own.jsonl", "--model",
        recovered.model, "--epochs", 1, "--learning-rate", 1e-3, "--device", "cpu", "--json",
    )  # fmt: skip
    assert done.code == 0, done.err
    assert "stay zeros" in done.err


@pytest.mark.parametrize(
    ("ticket", "claim"),
    [
        (4.9, "The recovered weights close 50% of the gap"),
        (4.52, "smaller than the standard error"),
    ],
)
@pytest.mark.usefixtures("working_folder")
def test_a_gap_below_the_standard_error_is_no_claim(
    ticket: float, claim: str, tiny_model: Path, text_file: Path
) -> None:
    found = search(
        small_config(tiny_model, text_file, steps=1, pattern="neurons", init_scores="nats"),
        output_dir="run",
    )
    config = RecoverConfig(ticket=str(found.ticket), steps=1, batch_size=2, sequence_length=16)
    result = recover(replace(config, corpus=(str(text_file),), device="cpu"))
    losses = dict(zip(result.losses, (4.5, ticket, (4.5 + ticket) / 2), strict=True))
    told = replace(result, losses=losses, standard_errors=dict.fromkeys(losses, 0.04))
    assert claim in repr(told)
