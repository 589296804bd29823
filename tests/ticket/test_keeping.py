"""Zeros survive the training of others: any optimiser, loop, trainer and wrapping."""

from __future__ import annotations

import copy
import io
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import processes
import pytest
import tiny
import torch
import train_kept
from kept_zeros import Lion, has_its_zeros
from samples import ticket_for
from torch import Tensor, nn
from torch.optim import Optimizer
from train_kept import load, train
from transformers import (
    Adafactor,
    AutoModel,
    AutoModelForMaskedLM,
    AutoModelForSequenceClassification,
    Trainer,
    TrainerCallback,
    TrainingArguments,
)

import tamtctl
from tamtctl.foundations.errors import ModelError, TicketError
from tamtctl.models.encoder import base_encoder, maskable_matrices
from tamtctl.ticket.ticket import Ticket

STEPS = 50
EMBEDDINGS = "embeddings.word_embeddings.weight"
LAYER = "encoder.layer.0.output.dense.weight"


@pytest.fixture(scope="module")
def ticket(bare_bert: Path) -> Ticket:
    return Ticket.load(ticket_for(bare_bert, bare_bert.parent / "ticket"))


@pytest.fixture(scope="module")
def dense(bare_bert: Path) -> Any:
    return load(bare_bert)


def saved_as_plain(model: Any, ticket: Ticket, folder: Path) -> Any:
    """Save a model and load it as anybody would; nothing is lost on the way."""
    model.save_pretrained(folder)
    again, loading = type(model).from_pretrained(folder, output_loading_info=True)
    assert not any(loading.values()), loading
    assert has_its_zeros(again, ticket)
    return again


# --- optimisers ------------------------------------------------------------------------------


def of_matrices(parameters: Iterable[Tensor]) -> list[Tensor]:
    return [p for p in parameters if p.dim() == 2]


def in_groups(model: nn.Module) -> list[dict[str, Any]]:
    decayed = of_matrices(model.parameters())
    others = [p for p in model.parameters() if p.dim() != 2]
    return [{"params": decayed, "weight_decay": 0.1}, {"params": others, "weight_decay": 0.0}]


OPTIMIZERS: dict[str, Callable[[nn.Module], Optimizer]] = {
    "adamw": lambda m: torch.optim.AdamW(in_groups(m), lr=1e-3),
    "adam-l2": lambda m: torch.optim.Adam(m.parameters(), lr=1e-3, weight_decay=0.1, amsgrad=True),
    "nesterov": lambda m: torch.optim.SGD(
        m.parameters(), lr=1e-2, momentum=0.9, nesterov=True, weight_decay=0.1
    ),
    "adafactor": lambda m: Adafactor(m.parameters(), lr=1e-3, relative_step=False),
    "lion": lambda m: Lion(m.parameters()),
}
if hasattr(torch.optim, "Muon"):  # since torch 2.9
    OPTIMIZERS["muon"] = lambda m: torch.optim.Muon(of_matrices(m.parameters()), lr=1e-2)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_any_optimiser_leaves_the_zeros(
    name: str, bare_bert: Path, ticket: Ticket, tmp_path: Path
) -> None:
    model = load(bare_bert)
    optimizer = OPTIMIZERS[name](model)  # made before, with moments of all weights
    train(model, optimizer, 2)
    model.load_state_dict(load(bare_bert).state_dict())
    applied = ticket.apply(model, keep=True)
    assert applied.kept is tamtctl.kept_zeros(model)
    train(model, optimizer, 10, accumulate=2)
    saved_as_plain(model, ticket, tmp_path / "before")
    train(model, OPTIMIZERS[name](model), STEPS)  # and one made afterwards
    saved = saved_as_plain(model, ticket, tmp_path / "after")
    trained = maskable_matrices(saved)
    moved = [
        n for n, w in maskable_matrices(load(bare_bert)).items() if not torch.equal(w, trained[n])
    ]
    assert set(ticket.parameters) == set(moved)


def test_without_keep_the_first_step_fills_them_in(bare_bert: Path, ticket: Ticket) -> None:
    model = load(bare_bert)
    assert ticket.apply(model).kept is None
    assert has_its_zeros(model, ticket)
    train(model, OPTIMIZERS["adamw"](model), 1)
    assert not has_its_zeros(model, ticket)
    assert tamtctl.kept_zeros(model) is None


def test_pruned_weights_count_in_no_norm_and_no_moment(bare_bert: Path, ticket: Ticket) -> None:
    """Gradients and moments are those of the kept weights alone, computed independently."""
    model, other = load(bare_bert), load(bare_bert)
    ticket.apply(model, keep=True)
    ticket.apply(other)
    optimizer = OPTIMIZERS["adamw"](model)
    for one in (model, other):
        one.eval()
        torch.manual_seed(0)
        one(**train_kept.batch(), output_hidden_states=False).loss.backward()
    kept = maskable_matrices(model)
    for name, matrix in maskable_matrices(other).items():
        gradient = kept[name].grad
        assert matrix.grad is not None
        assert gradient is not None
        assert not gradient[~ticket.mask(name)].any()
        torch.testing.assert_close(gradient, matrix.grad * ticket.mask(name), rtol=0, atol=1e-7)
    optimizer.step()
    for name, matrix in kept.items():
        assert not optimizer.state[matrix]["exp_avg"][~ticket.mask(name)].any()


def test_sparse_gradients(bare_bert: Path, ticket: Ticket) -> None:
    model = kept_model(bare_bert, ticket)
    table = model.get_input_embeddings()
    table.sparse = True
    model(**train_kept.batch()).loss.backward()
    assert table.weight.grad.is_sparse
    torch.optim.SGD(model.parameters(), lr=1.0).step()
    assert has_its_zeros(model, ticket)


def test_gradients_have_gradients(bare_bert: Path, ticket: Ticket) -> None:
    model = kept_model(bare_bert, ticket)
    model.set_attn_implementation("eager")  # the other ones have no second derivative
    weight = maskable_matrices(model)[LAYER]
    loss = model(**train_kept.batch()).loss
    (gradient,) = torch.autograd.grad(loss, weight, create_graph=True)
    assert not gradient[~ticket.mask(LAYER)].any()
    gradient.square().sum().backward()
    assert weight.grad is not None
    assert not weight.grad[~ticket.mask(LAYER)].any()
    assert weight.grad.any()


def test_a_scaled_step(bare_bert: Path, ticket: Ticket) -> None:
    model = load(bare_bert)
    ticket.apply(model, keep=True)
    optimizer, scaler = Lion(model.parameters()), torch.amp.GradScaler("cpu", init_scale=128.0)
    for _ in range(3):
        with torch.autocast("cpu", torch.bfloat16):
            loss = model(**train_kept.batch()).loss
        scaler.scale(loss).backward()
        scaler.unscale_(optimizer)
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        scaler.step(optimizer)
        scaler.update()
        optimizer.zero_grad()
        assert has_its_zeros(model, ticket)


# --- whatever is done to a model -------------------------------------------------------------


def kept_model(bare_bert: Path, ticket: Ticket) -> Any:
    model = load(bare_bert)
    ticket.apply(model, keep=True)
    return model


def test_copies_keep_their_own(bare_bert: Path, ticket: Ticket, tmp_path: Path) -> None:
    model = kept_model(bare_bert, ticket)
    file = io.BytesIO()
    torch.save(model, file)
    file.seek(0)
    for other in (copy.deepcopy(model), torch.load(file, weights_only=False)):
        kept, own = tamtctl.kept_zeros(other), tamtctl.kept_zeros(model)
        assert kept is not None
        assert kept is not own
        train(other, Lion(other.parameters()), 3)
        assert has_its_zeros(other, ticket)
        kept.release()
        train(other, Lion(other.parameters()), 1)
        assert not has_its_zeros(other, ticket)
    assert has_its_zeros(model, ticket)
    train(model, Lion(model.parameters()), 3)
    saved_as_plain(model, ticket, tmp_path / "saved")


def test_an_average_of_the_weights_keeps_them(bare_bert: Path, ticket: Ticket) -> None:
    model = kept_model(bare_bert, ticket)
    average = torch.optim.swa_utils.AveragedModel(model)
    optimizer = Lion(model.parameters())
    for _ in range(3):
        train(model, optimizer, 1)
        average.update_parameters(model)
    assert has_its_zeros(average.module, ticket)
    # As libraries for averages copy them in: past autograd.
    for parameter, other in zip(model.parameters(), load(bare_bert).parameters(), strict=True):
        parameter.data.copy_(other)
    with torch.no_grad():
        model.eval()(**train_kept.batch())
    assert has_its_zeros(model, ticket)


def put_other_data(model: Any, _: Any) -> None:
    for parameter in model.parameters():
        parameter.data = torch.randn_like(parameter)


def put_other_parameters(model: Any, _: Any) -> None:
    for module in model.modules():
        if isinstance(module, nn.Linear | nn.Embedding):
            module.weight = nn.Parameter(torch.randn_like(module.weight))


def write_past_autograd(model: Any, _: Any) -> None:
    for parameter in model.parameters():
        parameter.data.normal_()


def freeze_and_thaw(model: Any, _: Any) -> None:
    model.requires_grad_(False)
    model(**train_kept.batch())
    model.requires_grad_(True)


def train_in_half_precision(model: Any, _: Any) -> None:
    model.to(torch.bfloat16)
    train(model, Lion(model.parameters()), 2)
    model.float()


CHANGES: dict[str, Callable[[Any, Any], Any]] = {
    "load": lambda model, dense: model.load_state_dict(dense.state_dict()),
    "load by assigning": lambda model, dense: model.load_state_dict(
        copy.deepcopy(dense.state_dict()), assign=True
    ),
    "load the encoder": lambda model, dense: base_encoder(model).load_state_dict(
        base_encoder(dense).state_dict()
    ),
    "other data": put_other_data,
    "other parameters": put_other_parameters,
    "written past autograd": write_past_autograd,
    "frozen and not": freeze_and_thaw,
    "other precision": train_in_half_precision,
}


@pytest.mark.parametrize("change", CHANGES)
def test_the_zeros_survive(
    change: str, bare_bert: Path, ticket: Ticket, dense: Any, tmp_path: Path
) -> None:
    model = kept_model(bare_bert, ticket)
    CHANGES[change](model, dense)
    saved_as_plain(model, ticket, tmp_path / "at-once")
    CHANGES[change](model, dense)
    train(model, Lion(model.parameters()), 3)
    assert has_its_zeros(model, ticket)
    saved_as_plain(model, ticket, tmp_path / "trained")


def test_a_vocabulary_may_grow(bare_bert: Path, ticket: Ticket, tmp_path: Path) -> None:
    model = kept_model(bare_bert, ticket)
    words = model.config.vocab_size
    model.resize_token_embeddings(words + 4)
    train(model, Lion(model.parameters()), 3)
    table = model.get_input_embeddings().weight.detach()
    assert torch.equal(table[:words] != 0, ticket.mask(EMBEDDINGS))
    assert bool((table[words:] != 0).all())


def test_a_masked_lm_with_a_larger_vocabulary_is_saved_whole(
    bare_bert: Path, ticket: Ticket, tmp_path: Path
) -> None:
    """In memory, transformers then has one bias for the decoder and the head."""
    model = AutoModelForMaskedLM.from_pretrained(bare_bert).eval()
    with torch.no_grad():
        model.cls.predictions.bias.normal_()
    ticket.apply(model)
    model.resize_token_embeddings(model.config.vocab_size + 4)
    model.save_pretrained(tmp_path / "saved")
    again, loading = AutoModelForMaskedLM.from_pretrained(
        tmp_path / "saved", output_loading_info=True
    )
    assert not any(loading.values()), loading
    inputs = {"input_ids": torch.tensor([[1, 2, 3]])}
    assert torch.equal(again.eval()(**inputs).logits, model(**inputs).logits)


def test_a_model_may_run_twice_before_its_gradients(bare_bert: Path, ticket: Ticket) -> None:
    model = kept_model(bare_bert, ticket).train()
    optimizer = Lion(model.parameters())
    for _ in range(2):
        losses = [model(**train_kept.batch()).loss for _ in range(2)]
        sum(losses).backward()
        optimizer.step()
        assert has_its_zeros(model, ticket)
    other = {n: p.detach() + 1 for n, p in model.named_parameters()}
    torch.func.functional_call(model, other, kwargs=train_kept.batch())
    assert has_its_zeros(model, ticket)


def test_a_call_with_the_weights_of_another_model_leaves_them(
    bare_bert: Path, ticket: Ticket
) -> None:
    model, other = kept_model(bare_bert, ticket).eval(), load(bare_bert).eval()
    before = {name: p.detach().clone() for name, p in other.named_parameters()}
    batch = train_kept.batch()
    found = torch.func.functional_call(model, dict(other.named_parameters()), kwargs=batch)
    assert all(torch.equal(p, before[name]) for name, p in other.named_parameters())
    assert torch.equal(found.logits, other(**batch).logits)
    train(model, Lion(model.parameters()), 1)
    assert has_its_zeros(model, ticket)


def test_new_parameters_are_kept_though_the_old_ones_live_on(
    bare_bert: Path, ticket: Ticket
) -> None:
    model = kept_model(bare_bert, ticket)
    old = list(model.parameters())
    put_other_parameters(model, None)
    train(model, torch.optim.AdamW(model.parameters(), 1e-3), 2)
    assert has_its_zeros(model, ticket)
    assert len(old) == len(list(model.parameters()))


def test_it_can_be_let_go_and_asked(bare_bert: Path, ticket: Ticket) -> None:
    model = load(bare_bert)
    kept = ticket.apply(model, keep=True).kept
    assert kept is not None
    total = sum(entry.numel for entry in ticket.parameters.values())
    pruned = sum(entry.numel - entry.kept for entry in ticket.parameters.values())
    assert (kept.zeros, kept.names) == (pruned, tuple(ticket.parameters))
    assert repr(kept) == f"<KeptZeros: {pruned:,} zeros of {total:,} weights in 14 matrices, kept>"
    maskable_matrices(model)[LAYER].data.fill_(1)
    assert kept.lost() == (LAYER,)
    model(**train_kept.batch())
    assert kept.lost() == ()
    kept.release()
    kept.release()
    assert not kept.is_kept
    assert tamtctl.kept_zeros(model) is None
    assert "let go" in repr(kept)
    assert not any("KeptZeros" in str(hook) for m in model.modules() for hook in vars(m).values())
    train(model, Lion(model.parameters()), 1)
    assert not has_its_zeros(model, ticket)


def test_a_parameter_that_no_mask_fits_is_named(bare_bert: Path, ticket: Ticket) -> None:
    model = kept_model(bare_bert, ticket)
    model.get_submodule("bert.encoder.layer.0.output.dense").weight = nn.Parameter(torch.ones(3, 3))
    with pytest.raises(
        TicketError, match=rf"zeros of {LAYER} cannot be kept: its shape is \[3, 3\]"
    ):
        model(**train_kept.batch())


# --- trainers --------------------------------------------------------------------------------


class Rows(torch.utils.data.Dataset[dict[str, Tensor]]):
    def __len__(self) -> int:
        return 16

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        generator = torch.Generator().manual_seed(index)
        ids = torch.randint(5, 60, (8,), generator=generator)
        return {"input_ids": ids, "labels": torch.tensor(index % 2)}


def arguments(folder: Path, **changes: Any) -> TrainingArguments:
    values: dict[str, Any] = {
        "output_dir": str(folder),
        "max_steps": STEPS,
        "per_device_train_batch_size": 4,
        "learning_rate": 1e-3,
        "report_to": "none",
        "use_cpu": True,
        "disable_tqdm": True,
        "dataloader_pin_memory": False,
        "save_strategy": "no",
    }
    return TrainingArguments(**(values | changes))


class StopAt(TrainerCallback):
    def __init__(self, step: int) -> None:
        self.step = step

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        control.should_training_stop = state.global_step >= self.step


@pytest.mark.parametrize("how", ["callback", "apply"])
def test_trainer_with_resume_and_the_best_model_at_the_end(
    how: str, bare_bert: Path, ticket: Ticket, tmp_path: Path
) -> None:
    options: dict[str, Any] = {
        "save_strategy": "steps",
        "eval_strategy": "steps",
        "save_steps": 25,
        "eval_steps": 25,
        "load_best_model_at_end": True,
        "logging_steps": 25,
        "weight_decay": 0.1,
    }

    def trainer(*callbacks: TrainerCallback) -> Trainer:
        model = load(bare_bert)
        if how == "apply":
            ticket.apply(model, keep=True)
        else:
            callbacks = (*callbacks, tamtctl.KeepZeros(ticket))
        made = Trainer(
            model,
            arguments(tmp_path / "run", **options),
            train_dataset=Rows(),
            eval_dataset=Rows(),
            callbacks=list(callbacks),
        )
        assert has_its_zeros(model, ticket)
        return made

    trainer(StopAt(25)).train()
    checkpoint = tmp_path / "run" / "checkpoint-25"
    assert has_its_zeros(load(checkpoint), ticket)
    resumed = trainer()
    resumed.train(resume_from_checkpoint=str(checkpoint))
    assert resumed.state.global_step == STEPS
    assert resumed.state.best_model_checkpoint is not None
    assert has_its_zeros(load(tmp_path / "run" / f"checkpoint-{STEPS}"), ticket)
    resumed.save_model(str(tmp_path / "saved"))
    _, loading = AutoModelForSequenceClassification.from_pretrained(
        tmp_path / "saved", output_loading_info=True
    )
    assert not any(loading.values())
    assert has_its_zeros(load(tmp_path / "saved"), ticket)


def test_the_callback_in_other_situations(bare_bert: Path, ticket: Ticket, tmp_path: Path) -> None:
    short = arguments(tmp_path / "run", max_steps=2)
    late = Trainer(load(bare_bert), short, train_dataset=Rows())
    late.add_callback(tamtctl.KeepZeros(bare_bert.parent / "ticket"))
    late.train()
    assert has_its_zeros(late.model, ticket)
    checkpoint = tmp_path / "sparse"
    late.save_model(str(checkpoint))

    anew = Trainer(
        args=short,
        train_dataset=Rows(),
        model_init=lambda: load(bare_bert),
        callbacks=[tamtctl.KeepZeros(ticket)],
    )
    for _ in range(2):
        anew.train()
        assert has_its_zeros(anew.model, ticket)

    # A checkpoint to which the ticket was applied before, with and without the ticket at hand.
    for callback in (tamtctl.KeepZeros(ticket), tamtctl.KeepZeros()):
        again = Trainer(load(checkpoint), short, train_dataset=Rows(), callbacks=[callback])
        again.train()
        assert has_its_zeros(again.model, ticket)

    # Zeros that are kept already are those of this ticket, or it is refused.
    kept = kept_model(bare_bert, ticket)
    Trainer(kept, short, callbacks=[tamtctl.KeepZeros(ticket)])
    sparser = Ticket.load(ticket_for(bare_bert, tmp_path / "sparser", sparsity=0.9))
    with pytest.raises(TicketError, match="keeps the zeros of another mask already"):
        Trainer(kept, short, callbacks=[tamtctl.KeepZeros(sparser)])

    other = tiny.build("bert", seed=5)
    with pytest.raises(TicketError, match="does not hold the pre-trained weights"):
        Trainer(other, short, callbacks=[tamtctl.KeepZeros(ticket)])
    with pytest.raises(ModelError, match="holds no zeros to keep"):
        Trainer(other, short, callbacks=[tamtctl.KeepZeros()])
    # The optimiser is made before a model of model_init is known to the callback.
    tied = Trainer(
        args=short,
        train_dataset=Rows(),
        model_init=lambda: AutoModelForMaskedLM.from_pretrained(bare_bert),
    )
    tied.add_callback(tamtctl.KeepZeros(ticket))
    with pytest.raises(TicketError, match="which the Trainer's optimiser does not know"):
        tied.train()


def test_accelerate(bare_bert: Path, ticket: Ticket, tmp_path: Path) -> None:
    accelerate = pytest.importorskip("accelerate")
    model = load(bare_bert)
    accelerator = accelerate.Accelerator(cpu=True, gradient_accumulation_steps=2)
    ticket.apply(model, keep=True)
    loader = torch.utils.data.DataLoader(Rows(), batch_size=4)
    model, optimizer, loader = accelerator.prepare(model, Lion(model.parameters()), loader)
    model.train()
    for _ in range(STEPS // 2):
        for rows in loader:
            with accelerator.accumulate(model):
                accelerator.backward(model(**rows).loss)
                accelerator.clip_grad_norm_(model.parameters(), 1.0)
                optimizer.step()
                optimizer.zero_grad()
    plain = accelerator.unwrap_model(model)
    assert has_its_zeros(plain, ticket)
    plain.save_pretrained(tmp_path / "plain", state_dict=accelerator.get_state_dict(model))
    assert has_its_zeros(load(tmp_path / "plain"), ticket)
    accelerator.save_state(str(tmp_path / "state"))
    accelerator.load_state(str(tmp_path / "state"))
    saved_as_plain(plain, ticket, tmp_path / "saved")


# --- what a ticket is applied to -------------------------------------------------------------


@pytest.mark.parametrize("compiled_first", [False, True])
def test_a_compiled_model(
    compiled_first: bool, bare_bert: Path, ticket: Ticket, tmp_path: Path
) -> None:
    model = load(bare_bert)
    compiled: Any = torch.compile(model, backend="eager", fullgraph=True)
    ticket.apply(compiled if compiled_first else model, keep=True)
    assert tamtctl.kept_zeros(compiled) is tamtctl.kept_zeros(model)
    train(compiled, Lion(model.parameters()), 3)
    assert has_its_zeros(model, ticket)
    saved_as_plain(model, ticket, tmp_path / "saved")
    state = compiled.state_dict()
    assert list(state) == [f"_orig_mod.{name}" for name in model.state_dict()]


def test_two_processes(bare_bert: Path, ticket: Ticket, tmp_path: Path) -> None:
    """DistributedDataParallel, also of and in a compiled model; sharded models are refused."""
    given = (bare_bert, bare_bert.parent / "ticket", tmp_path)
    running = [
        processes.Process(target=train_kept.main_of, args=(environment, *given))
        for environment in processes.environments(2)
    ]
    for process in running:
        process.start()
    for rank, process in enumerate(running):
        process.join()
        assert process.exitcode == 0
        told = (tmp_path / f"told-{rank}").read_text().splitlines()
        assert {line.split(": ")[0] for line in told} == {
            "decoder", "sharded", "sharded by wrapping", "sharded in place",
        }  # fmt: skip
    for name in ("ddp", "compiled-ddp"):
        assert has_its_zeros(load(tmp_path / name), ticket)


class Own(nn.Module):
    def __init__(self, encoder: nn.Module) -> None:
        super().__init__()
        self.encoder, self.top = encoder, nn.Linear(16, 2)


def test_a_module_of_ones_own_and_a_pipeline(bare_bert: Path, ticket: Ticket) -> None:
    from transformers import pipeline

    own = Own(AutoModel.from_pretrained(bare_bert))
    assert len(ticket.apply(own, keep=True).applied) == 14
    assert has_its_zeros(own.encoder, ticket)
    parallel = nn.DataParallel(Own(AutoModel.from_pretrained(bare_bert)))
    assert ticket.apply(parallel).applied
    features = pipeline("feature-extraction", str(bare_bert))
    assert ticket.apply(features).applied
    assert has_its_zeros(features.model, ticket)


def test_of_several_models_the_one_that_fits_is_taken(bare_bert: Path, ticket: Ticket) -> None:
    right, wrong = AutoModel.from_pretrained(bare_bert), tiny.build("bert", seed=9, with_head=False)
    before = {n: p.detach().clone() for n, p in wrong.named_parameters()}
    both = nn.ModuleList([wrong, right])
    assert ticket.apply(both, keep=True).applied
    assert has_its_zeros(right, ticket)
    assert all(torch.equal(p, before[n]) for n, p in wrong.named_parameters())
    assert ticket.is_applied_to(both)
    assert tamtctl.kept_zeros(both) is tamtctl.kept_zeros(right)
    same = nn.ModuleList([AutoModel.from_pretrained(bare_bert) for _ in range(2)])
    with pytest.raises(TicketError, match=r"ModuleList holds 2 models \(BertModel, BertModel\), and"
                       " the ticket fits 2 of them"):  # fmt: skip
        ticket.apply(same)
    with pytest.raises(TicketError, match=r"and none is what the ticket is for: .* does not hold"):
        ticket.apply(nn.ModuleList([wrong, tiny.build("bert", seed=4)]))


class FullyShardedDataParallel(Own): ...


class DeepSpeedEngine(Own): ...


class PeftModelForFeatureExtraction(Own): ...


class PeftModel(PeftModelForFeatureExtraction): ...


class Int8Params(nn.Parameter): ...


def quantised(model: Any) -> Any:
    layer = model.get_submodule("encoder.layer.0.output.dense")
    data = torch.zeros(layer.weight.shape, dtype=torch.int8)
    layer.weight = Int8Params(data, requires_grad=False)
    return model


class LowRank(nn.Module):
    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.base_layer = layer


def with_adapter(model: Any) -> Any:
    output = model.get_submodule("encoder.layer.0.output")
    output.dense = LowRank(output.dense)
    return model


REFUSED: dict[str, tuple[Callable[[Any], Any], str]] = {
    "nothing": (lambda _: None, "not to None"),
    "a name": (lambda _: "bert", r"not to a str; load it first \(AutoModel.from_pretrained\)"),
    "a state": (lambda model: model.state_dict(), "not to an OrderedDict"),
    "a class": (lambda _: AutoModel, "not to a type"),
    "a layer": (lambda _: nn.Linear(2, 2), "there is none in a Linear"),
    "shards": (FullyShardedDataParallel, "FullyShardedDataParallel, which holds shards"),
    "deepspeed": (DeepSpeedEngine, "a DeepSpeedEngine, which holds weights of its own"),
    "peft": (PeftModel, "a PeftModel, in which adapters .* before get_peft_model"),
    "peft inside": (lambda model: Own(PeftModel(model)), "a PeftModel, in which adapters"),
    "quantised": (quantised, rf"{LAYER} of the model is quantised \(Int8Params\)"),
    "an adapter": (with_adapter, f"{LAYER} of the model is in a LowRank, which is no plain layer"),
    "half": (lambda model: model.half(), "is in float16.*load it with dtype=torch.float32"),
    "meta": (lambda model: model.to("meta"), "meta device; load its weights first"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_is_refused_is_named(what: str, bare_bert: Path, ticket: Ticket) -> None:
    make, message = REFUSED[what]
    given = make(AutoModel.from_pretrained(bare_bert))
    with pytest.raises(TicketError, match=message) as raised:
        ticket.apply(given, keep=True)
    assert "\n" not in str(raised.value)


def test_an_adapter_is_not_taken_for_pruned_weights(bare_bert: Path, ticket: Ticket) -> None:
    model = AutoModel.from_pretrained(bare_bert)
    ticket.apply(model)
    with pytest.raises(TicketError, match=r"has adapters \(LowRank of test_keeping\), which begin"):
        tamtctl.keep_zeros(with_adapter(model))


def test_what_holds_a_model_is_named_with_it(
    bare_bert: Path, ticket: Ticket, tmp_path: Path
) -> None:
    trainer = Trainer(load(bare_bert), arguments(tmp_path))
    with pytest.raises(TicketError, match=r"not to a Trainer; give its \.model"):
        ticket.apply(trainer)


# --- a model to which a ticket was applied before --------------------------------------------


def test_the_zeros_of_a_checkpoint_are_kept(
    bare_bert: Path, ticket: Ticket, tmp_path: Path
) -> None:
    model = kept_model(bare_bert, ticket)
    train(model, Lion(model.parameters()), 3)
    model.save_pretrained(tmp_path / "sparse")
    for keep in (ticket.keep, tamtctl.keep_zeros):
        again = load(tmp_path / "sparse")
        assert ticket.is_applied_to(again)
        assert keep(again) is tamtctl.kept_zeros(again)
        train(again, Lion(again.parameters()), 3)
        assert has_its_zeros(again, ticket)
        saved_as_plain(again, ticket, tmp_path / "again")
    filled = load(tmp_path / "sparse")
    train(filled, Lion(filled.parameters()), 1)
    assert not ticket.is_applied_to(filled)
    with pytest.raises(TicketError, match=r"pruned weights of .* are not zero in the model"):
        ticket.keep(filled)
    with pytest.raises(TicketError, match=r"no matrix .*; this ticket is for bert"):
        ticket.keep(tiny.build("distilbert"))


def test_in_half_precision_the_zeros_of_a_checkpoint_are_kept(
    bare_bert: Path, ticket: Ticket, tmp_path: Path
) -> None:
    model = kept_model(bare_bert, ticket).bfloat16()
    model.save_pretrained(tmp_path / "half")
    half = AutoModel.from_pretrained(tmp_path / "half", dtype=torch.bfloat16)
    assert ticket.keep(half).lost() == ()
