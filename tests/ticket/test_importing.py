"""Export to a checkpoint, and import of masks that other programs wrote."""

from __future__ import annotations

import pickle
import shutil
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
from masks import random_masks
from torch import Tensor
from torch.nn.utils import prune
from transformers import AutoModel, AutoModelForMaskedLM

from tamtctl.foundations.errors import ModelError, TamtctlError, TicketError, UsageError
from tamtctl.models.encoder import maskable_matrices
from tamtctl.models.heads import HEADS
from tamtctl.models.loading import load_encoder
from tamtctl.ticket.exporting.checkpoint import write_checkpoint
from tamtctl.ticket.importing import import_ticket
from tamtctl.ticket.ticket import Ticket

IDS = torch.tensor([[1, 8, 9, 10, 30, 2], [1, 12, 11, 2, 0, 0]])


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A whole BERT checkpoint with its masked-LM head; it has no pooler."""
    return tiny.save(tmp_path_factory.mktemp("base") / "bert", "bert")


@pytest.fixture(scope="module")
def masks(base: Path) -> dict[str, Tensor]:
    return random_masks(load_encoder(str(base), with_head=True).weights, 0.5, seed=1)


@pytest.fixture(scope="module")
def ticket(base: Path, masks: dict[str, Tensor], tmp_path_factory: pytest.TempPathFactory) -> Path:
    model = AutoModelForMaskedLM.from_pretrained(base, dtype=torch.float32)
    encoder = {id(p) for p in model.base_model.parameters()}
    head = {n: p + 1 for n, p in model.named_parameters() if id(p) not in encoder}
    folder = tmp_path_factory.mktemp("tickets") / "ticket"
    make(load_encoder(str(base), with_head=True).weights, masks, base, head).save_pretrained(folder)
    return folder


def make(
    weights: dict[str, Tensor], masks: dict[str, Tensor], base: Path, head: Any = None
) -> Ticket:
    return Ticket.create(
        weights, masks, base_model_id=str(base), revision=None, model_type="bert", method="random",
        target_sparsity=0.5, objective=None, search={}, metrics={}, mlm_head=head,
    )  # fmt: skip


def first_output(model: Any, ids: Tensor = IDS) -> Tensor:
    with torch.no_grad():
        return model.eval()(input_ids=ids)[0]  # type: ignore[no-any-return]


# --- export -------------------------------------------------------------------------------------


@pytest.mark.parametrize("head", HEADS)
def test_every_head_loads_again(
    ticket: Path, masks: dict[str, Tensor], tmp_path: Path, head: str
) -> None:
    done = write_checkpoint(ticket, tmp_path / "out", head=head)
    assert done.bytes == sum(f.stat().st_size for f in (tmp_path / "out").iterdir())
    again = HEADS[head].from_pretrained(tmp_path / "out", dtype=torch.float32)
    assert type(again).__name__ == done.model_class
    matrices = maskable_matrices(again)
    assert done.zeros == sum(int((~mask).sum()) for mask in masks.values())
    assert all(bool((matrices[n][~mask] == 0).all()) for n, mask in masks.items())
    assert bool(done.new) == (head not in ("none", "masked-lm"))
    assert load_encoder(str(tmp_path / "out"), with_head=False).tokenizer("the file")["input_ids"]


def test_the_decoder_stays_dense(ticket: Path, base: Path, tmp_path: Path) -> None:
    """The logits are those of the masked encoder under the dense, pre-trained head."""
    write_checkpoint(ticket, tmp_path / "out")
    again = AutoModelForMaskedLM.from_pretrained(tmp_path / "out", dtype=torch.float32).eval()
    dense = AutoModelForMaskedLM.from_pretrained(base, dtype=torch.float32).eval()
    embeddings = again.get_input_embeddings().weight
    assert again.get_output_embeddings().weight is not embeddings
    assert torch.equal(again.get_output_embeddings().weight, dense.get_input_embeddings().weight)

    masked = AutoModelForMaskedLM.from_pretrained(base, dtype=torch.float32).eval()
    Ticket.load(ticket).apply(masked)
    with torch.no_grad():
        states = masked.base_model(input_ids=IDS)[0]
        expected = dense.cls(states)
    torch.testing.assert_close(first_output(again), expected, rtol=0, atol=1e-6)


def test_the_trained_head(ticket: Path, tmp_path: Path) -> None:
    write_checkpoint(ticket, tmp_path / "out", trained_head=True)
    again = dict(AutoModelForMaskedLM.from_pretrained(tmp_path / "out").named_parameters())
    head = Ticket.load(ticket).mlm_head
    assert head
    assert all(torch.equal(again[name], tensor) for name, tensor in head.items())
    with pytest.raises(TicketError, match="goes with --head masked-lm"):
        write_checkpoint(ticket, tmp_path / "none", head="none", trained_head=True)


def test_what_export_refuses(ticket: Path, masks: dict[str, Tensor], tmp_path: Path) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "x").touch()
    with pytest.raises(TicketError, match="is not empty; give a new"):
        write_checkpoint(ticket, tmp_path / "full")
    with pytest.raises(UsageError, match="did you mean masked-lm"):
        write_checkpoint(ticket, tmp_path / "out", head="masked_lm")
    other = tiny.save(tmp_path / "other", "bert", seed=5)
    with pytest.raises(TicketError, match="does not hold the pre-trained weights"):
        write_checkpoint(ticket, tmp_path / "out", model=str(other))
    headless = tiny.save(tmp_path / "headless", "bert", with_head=False)
    with pytest.raises(ModelError, match="has no masked-LM head"):
        write_checkpoint(ticket, tmp_path / "out", model=str(headless), head="masked-lm")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["full", "headless", "other"]


def test_export_of_a_delta_ticket(ticket: Path, base: Path, tmp_path: Path) -> None:
    weights = load_encoder(str(base), with_head=True).weights
    Ticket.load(ticket).encode("delta", weights).save_pretrained(tmp_path / "delta")
    write_checkpoint(ticket, tmp_path / "a", head="none")
    write_checkpoint(tmp_path / "delta", tmp_path / "b", head="none")
    contents = [(tmp_path / name / "model.safetensors").read_bytes() for name in "ab"]
    assert contents[0] == contents[1]


# --- import -------------------------------------------------------------------------------------


def save_masks(path: Path, masks: dict[str, Tensor], name: str, dtype: torch.dtype) -> Path:
    content = {name.format(n.removesuffix(".weight")): m.to(dtype) for n, m in masks.items()}
    torch.save(content, path)
    return path


@pytest.mark.parametrize(
    ("name", "dtype"),
    [
        ("bert.{}.weight", torch.bool),
        ("bert.{}.weight", torch.float32),
        ("bert.{}.weight_mask", torch.float32),
        ("module.bert.{}.weight_mask", torch.uint8),
        ("{}.weight_mask", torch.bool),
    ],
)
def test_mask_files(
    base: Path, masks: dict[str, Tensor], tmp_path: Path, name: str, dtype: torch.dtype
) -> None:
    source = save_masks(tmp_path / "mask.pt", masks, name, dtype)
    done = import_ticket(source, tmp_path / "t", model=str(base), method="imp")
    assert done.kind == "masks"
    loaded = Ticket.load(tmp_path / "t")
    assert all(torch.equal(loaded.mask(n), mask) for n, mask in masks.items())
    assert (loaded.method, loaded.allocation, loaded.target_sparsity) == ("imp", "uniform", 0.5)
    assert loaded.apply(AutoModel.from_pretrained(base, dtype=torch.float32)).applied


def test_some_matrices_and_a_classifier(
    base: Path, masks: dict[str, Tensor], tmp_path: Path
) -> None:
    """BERT-Tickets leaves the embeddings dense; a classifier's mask is of no use here."""
    some = {n: m for n, m in masks.items() if "embeddings" not in n}
    source = save_masks(
        tmp_path / "m.pt", some | {"classifier.weight": torch.ones(2, 16)}, "{}.weight_mask",
        torch.float32,
    )  # fmt: skip
    done = import_ticket(source, tmp_path / "t", model=str(base))
    assert done.dense == ("embeddings.word_embeddings.weight",)
    assert done.ignored == 1
    model = AutoModel.from_pretrained(base, dtype=torch.float32)
    assert "embeddings.word_embeddings.weight" in Ticket.load(tmp_path / "t").apply(model).unmasked


@pytest.mark.parametrize("form", ["pruned.bin", "zeros.bin", "folder"])
def test_checkpoints(base: Path, masks: dict[str, Tensor], tmp_path: Path, form: str) -> None:
    model = AutoModelForMaskedLM.from_pretrained(base, dtype=torch.float32)
    modules = dict(model.base_model.named_modules())
    for name, mask in masks.items():
        prune.custom_from_mask(modules[name.removesuffix(".weight")], "weight", mask)
        if form != "pruned.bin":
            prune.remove(modules[name.removesuffix(".weight")], "weight")
    source = tmp_path / form
    if form == "folder":
        model.config.tie_word_embeddings = False
        model.save_pretrained(source)
    else:
        torch.save({"state_dict": model.state_dict()}, source)
    done = import_ticket(source, tmp_path / "t", model=str(base), encoding="zstd")
    assert done.kind == (
        "torch.nn.utils.prune" if form == "pruned.bin" else "zeros of a checkpoint"
    )
    assert done.encoding == "zstd"
    loaded = Ticket.load(tmp_path / "t")
    assert all(torch.equal(loaded.mask(n), mask) for n, mask in masks.items())


def test_there_and_back(ticket: Path, base: Path, masks: dict[str, Tensor], tmp_path: Path) -> None:
    write_checkpoint(ticket, tmp_path / "checkpoint")
    done = import_ticket(tmp_path / "checkpoint", tmp_path / "t", model=str(base))
    loaded = Ticket.load(done.ticket)
    assert all(torch.equal(loaded.mask(n), mask) for n, mask in masks.items())


def test_zeros_of_the_base_model_are_not_pruned(tmp_path: Path) -> None:
    """RoBERTa's row of padding is zero from the start."""
    base = tiny.save(tmp_path / "base", "roberta")
    model = AutoModelForMaskedLM.from_pretrained(base, dtype=torch.float32)
    with torch.no_grad():
        model.get_input_embeddings().weight[0] = 0
    model.save_pretrained(base)
    with torch.no_grad():
        model.base_model.encoder.layer[0].output.dense.weight[0, 0] = 0
    model.save_pretrained(tmp_path / "pruned")
    done = import_ticket(tmp_path / "pruned", tmp_path / "t", model=str(base))
    assert done.matrices == 1
    with pytest.raises(TicketError, match="no zeros"):
        import_ticket(base, tmp_path / "u", model=str(base))


def test_another_encoding_of_a_ticket(ticket: Path, tmp_path: Path) -> None:
    done = import_ticket(ticket, tmp_path / "t", encoding="zstd")
    assert (done.kind, done.encoding) == ("ticket", "zstd")
    import_ticket(tmp_path / "t", tmp_path / "back")
    for name in ("ticket.json", "mask.safetensors", "mlm_head.safetensors"):
        assert (tmp_path / "back" / name).read_bytes() == (ticket / name).read_bytes()


def test_a_model_that_is_not_the_tickets_is_refused(
    ticket: Path, base: Path, tmp_path: Path
) -> None:
    other = tiny.save(tmp_path / "other", "bert", seed=1)
    with pytest.raises(TicketError, match="does not hold the pre-trained weights of"):
        import_ticket(ticket, tmp_path / "t", encoding="zstd", model=str(other))
    assert import_ticket(ticket, tmp_path / "t", encoding="zstd", model=str(base)).matrices


@pytest.mark.parametrize("told", ["method", "revision", "prefix"])
def test_what_a_ticket_says_is_not_told_anew(ticket: Path, tmp_path: Path, told: str) -> None:
    with pytest.raises(UsageError, match=f"is a ticket, .* leave --{told} out"):
        import_ticket(ticket, tmp_path / "t", **{told: "x"})


class Evil:
    def __reduce__(self) -> Any:
        return (Path.touch, (Path("pwned"),))


def test_what_import_refuses(
    base: Path, masks: dict[str, Tensor], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "evil.pt").write_bytes(pickle.dumps(Evil()))
    torch.save({"a.weight": Evil()}, tmp_path / "evil2.pt")
    (tmp_path / "text.pt").write_text("hello")
    (tmp_path / "empty.safetensors").touch()
    torch.save([1, 2], tmp_path / "list.pt")
    torch.save({"x.weight": torch.ones(2)}, tmp_path / "other.pt")
    save_masks(
        tmp_path / "two.pt", {n: m * 2 for n, m in masks.items()}, "{}.weight_mask", torch.int8
    )
    ones = {n: torch.ones_like(m) for n, m in masks.items()}
    save_masks(tmp_path / "ones.pt", ones, "{}.weight_mask", torch.bool)
    none = {n: torch.zeros_like(m) for n, m in masks.items()}
    save_masks(tmp_path / "nothing.pt", none, "{}.weight_mask", torch.bool)
    save_masks(tmp_path / "small.pt", {n: m[:1] for n, m in masks.items()}, "{}.weight", torch.bool)
    sparse = {n: m.float().to_sparse() for n, m in masks.items()}
    save_masks(tmp_path / "sparse.pt", sparse, "{}.weight_mask", torch.float32)
    (tmp_path / "folder").mkdir()
    for source, message in {
        "evil.pt": "without running code in it",
        "evil2.pt": "without running code in it",
        "text.pt": "without running code in it",
        "empty.safetensors": "is damaged",
        "list.pt": "holds no tensors by name",
        "other.pt": "names no matrix of",
        "two.pt": "more than zeros and ones",
        "ones.pt": "keep every weight; not pruned",
        "nothing.pt": "keep no weight; where 1 stands for a pruned weight, give 1 − mask",
        "small.pt": "has the shape",
        "sparse.pt": r"as a sparse tensor; save it by its to_dense\(\)",
        "folder": "holds none of model.safetensors",
        "nowhere": "there is no file or folder",
    }.items():
        with pytest.raises(TamtctlError, match=message) as raised:
            import_ticket(source, tmp_path / "t", model=str(base))
        assert "\n" not in str(raised.value)
    with pytest.raises(UsageError, match="--model is needed"):
        import_ticket("two.pt", tmp_path / "t")
    assert not (tmp_path / "pwned").exists()
    assert not (tmp_path / "t").exists()


@pytest.mark.parametrize("form", ["zeros", "prune"])
@pytest.mark.parametrize(("seed", "is_doubted"), [(0, False), (7, True)])
def test_a_pruned_checkpoint_of_another_model_is_doubted(
    form: str, seed: int, is_doubted: bool, tmp_path: Path
) -> None:
    own = tiny.save(tmp_path / "m", "bert")
    weights = dict(tiny.build("bert", seed=seed).named_parameters())
    tensors: dict[str, Tensor] = {}
    for name, weight in weights.items():
        if "layer" in name and weight.dim() == 2:
            trained_on = weight.detach() + 0.05 * torch.randn_like(weight)
            mask = (torch.rand_like(trained_on) < 0.4).float()
            if form == "zeros":
                tensors[name] = trained_on * mask
            else:
                tensors |= {f"{name}_orig": trained_on, f"{name}_mask": mask}
    torch.save(tensors, tmp_path / "pruned.pt")
    result = import_ticket(tmp_path / "pruned.pt", tmp_path / "t", model=own)
    assert (result.remark is not None) == is_doubted
    if result.remark:
        assert (
            f"matrices, the weights that it keeps are hardly those of {own} (of " in result.remark
        )


def test_transposed_matrices_and_numbers_that_are_none_are_named(
    base: Path, masks: dict[str, Tensor], tmp_path: Path
) -> None:
    weights = load_encoder(str(base), with_head=True).weights
    pruned = {name: weight * masks[name] for name, weight in weights.items()}
    (square, *_) = (n for n, weight in pruned.items() if weight.shape[0] == weight.shape[1])
    for tensor, remark in (
        (pruned[square].T.contiguous(), f"in 1 of {len(pruned)} matrices"),
        (pruned[square] * torch.nan, f"its matrix {square} holds numbers that are infinite or NaN"),
    ):
        torch.save(pruned | {square: tensor}, tmp_path / "pruned.pt")
        result = import_ticket(tmp_path / "pruned.pt", tmp_path / "t", model=base)
        assert result.remark
        assert result.remark.startswith(remark)
        shutil.rmtree(tmp_path / "t")


def test_a_checkpoint_under_other_names_than_in_memory(tmp_path: Path) -> None:
    """GTE is saved with its queries, keys and values under names of their own."""
    base = tiny.save(tmp_path / "gte", "gte")
    model = AutoModelForMaskedLM.from_pretrained(base, dtype=torch.float32)
    matrices = maskable_matrices(model)
    wanted = random_masks({n: p.detach() for n, p in matrices.items()}, 0.5, seed=1)
    with torch.no_grad():
        for name, matrix in matrices.items():
            matrix.mul_(wanted[name])
    model.save_pretrained(tmp_path / "pruned")
    result = import_ticket(tmp_path / "pruned", tmp_path / "t", model=base)
    assert (result.matrices, result.dense) == (len(matrices), ())
    found = Ticket.load(tmp_path / "t").masks
    assert all(torch.equal(found[name], mask) for name, mask in wanted.items())
