"""A head in a ticket is a whole head of its model, or it is refused, whoever reads it."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import safetensors.torch
import tiny
import torch
from command_line import Run
from samples import ticket_for
from small_tickets import list_again
from torch import Tensor
from transformers import AutoModelForMaskedLM

from tamtctl.models.loading import load_encoder
from tamtctl.pruning.objectives.objective import Objective
from tamtctl.ticket.exporting.checkpoint import write_checkpoint
from tamtctl.ticket.heads import head_parameters
from tamtctl.ticket.ticket import Ticket

pytestmark = pytest.mark.usefixtures("working_folder")

Head = dict[str, Tensor]
IDS = torch.arange(8).view(2, 4)


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.save(tmp_path_factory.mktemp("models") / "bert", "bert")


@pytest.fixture(scope="module")
def ticket(bert: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A ticket of it, with a head that differs from the pre-trained one in every number."""
    model = load_encoder(str(bert), with_head=True).model
    folder = ticket_for(bert, tmp_path_factory.mktemp("tickets") / "ticket")
    bring(folder, {n: p.detach() + 1 for n, p in head_parameters(model).items()})
    return folder


def bring(folder: Path, head: Head) -> None:
    """Let a ticket list these tensors as its head, whatever they are."""
    content = {name: tensor.clone().contiguous() for name, tensor in head.items()}
    safetensors.torch.save_file(content, folder / "mlm_head.safetensors")
    list_again(folder, "mlm_head.safetensors")


@pytest.mark.parametrize("family", tiny.FAMILIES)
def test_what_a_search_trains_is_the_head(family: str, tmp_path: Path) -> None:
    """Before and after the decoder is untied, it is the same head: no encoder, no decoder."""
    encoder = load_encoder(str(tiny.save(tmp_path / family, family)), with_head=True)
    loaded = head_parameters(encoder.model)
    trained = Objective(encoder, "mlm", {n: p.detach() for n, p in encoder.matrices.items()}).head
    assert trained.keys() == loaded.keys()
    assert all(trained[name] is loaded[name] for name in trained)
    vocabulary = len(tiny.VOCABULARY)
    assert not any(p.dim() == 2 and p.shape[0] == vocabulary for p in trained.values())
    assert sum(p.shape == (vocabulary,) for p in trained.values()) == 1  # the output bias


def test_an_exported_head_says_what_the_trained_one_says(
    ticket: Path, bert: Path, tmp_path: Path
) -> None:
    """Also through the bias that the decoder shares with the head."""
    write_checkpoint(ticket, tmp_path / "out", trained_head=True)
    again = AutoModelForMaskedLM.from_pretrained(tmp_path / "out", dtype=torch.float32).eval()
    dense = AutoModelForMaskedLM.from_pretrained(bert, dtype=torch.float32).eval()
    masked = AutoModelForMaskedLM.from_pretrained(bert, dtype=torch.float32).eval()
    loaded = Ticket.load(ticket)
    loaded.apply(masked)
    assert loaded.mlm_head
    with torch.no_grad():
        for name, parameter in head_parameters(dense).items():
            parameter.copy_(loaded.mlm_head[name])
        expected = dense.cls(masked.base_model(input_ids=IDS)[0])
        torch.testing.assert_close(again(input_ids=IDS)[0], expected, rtol=0, atol=1e-6)


def without(name: str) -> Callable[[Head], Head]:
    return lambda head: {n: t for n, t in head.items() if not n.endswith(name)}


def with_one(name: str, *shape: int, dtype: torch.dtype = torch.float32) -> Callable[[Head], Head]:
    return lambda head: head | {name: torch.ones(shape, dtype=dtype)}


BIAS, DENSE = "cls.predictions.bias", "cls.predictions.transform.dense.weight"
NORM = "cls.predictions.transform.LayerNorm.weight"

# What is wrong with it whatever the model, and what only the model tells.
NEVER_A_HEAD: dict[str, Callable[[Head], Head]] = {
    "nothing": lambda head: {},
    "a matrix of the encoder": with_one("encoder.layer.0.attention.self.query.weight", 16, 16),
    "the same, with its prefix": with_one("bert.encoder.layer.0.output.dense.weight", 16, 32),
    "a bias of the encoder": with_one("bert.encoder.layer.1.output.dense.bias", 16),
    "a norm of the encoder": with_one("bert.embeddings.LayerNorm.weight", 16),
    "positions": with_one("bert.embeddings.position_embeddings.weight", 40, 16),
    "word embeddings": with_one("bert.embeddings.word_embeddings.weight", 84, 16),
    "the decoder": with_one("cls.predictions.decoder.weight", 84, 16),
    "the decoder by another name": with_one("cls.predictions.transform.x", 84, 16),
    "integers": with_one(BIAS, 84, dtype=torch.int64),
    "doubles": with_one(BIAS, 84, dtype=torch.float64),
    "infinity": lambda head: head | {BIAS: head[BIAS] / 0},
    "no number": lambda head: head | {NORM: head[NORM] * float("nan")},
}
NOT_THIS_HEAD: dict[str, Callable[[Head], Head]] = {
    "half a head": without("dense.weight"),
    "all but the output bias": without("predictions.bias"),
    "one more": with_one("cls.predictions.transform.more.weight", 16, 16),
    "the tied bias, too": with_one("cls.predictions.decoder.bias", 84),
    "one number for a bias": with_one(BIAS, 1),
    "a row that would be broadcast": with_one(DENSE, 1, 16),
    "a column that would be broadcast": with_one(DENSE, 16, 1),
    "a scalar": with_one(NORM),
    "the same numbers in another shape": with_one(DENSE, 256),
    "a larger vocabulary": with_one(BIAS, 85),
    "another class's head": lambda head: {
        n.replace("cls.predictions", "lm_head"): t for n, t in head.items()
    },
}


def hostile(ticket: Path, to: Path, change: Callable[[Head], Head]) -> Path:
    shutil.copytree(ticket, to)
    bring(to, change(safetensors.torch.load_file(to / "mlm_head.safetensors")))
    return to


@pytest.mark.parametrize("case", NEVER_A_HEAD)
def test_what_the_ticket_alone_tells(run: Run, ticket: Path, tmp_path: Path, case: str) -> None:
    hostile(ticket, tmp_path / "t", NEVER_A_HEAD[case])
    checks = {check.name: check for check in Ticket.verify(tmp_path / "t")}
    assert checks["mlm_head.safetensors"].passed is False
    for command in (
        "inspect t",
        "push t org/name --dry-run",
        "export t --output-dir out",
        "evaluate t --task mlm --corpus text.txt --head ticket",
        "compare t --corpus text.txt",
        "import t --output-dir out",
    ):
        done = run(*command.split())
        assert done.code == 1, done
        assert done.err.splitlines()[-1].startswith("error: ")
        assert "mlm_head.safetensors" in done.err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["t"]


@pytest.mark.parametrize("case", NOT_THIS_HEAD)
def test_what_the_model_tells(
    run: Run, ticket: Path, text_file: Path, tmp_path: Path, case: str
) -> None:
    hostile(ticket, tmp_path / "t", NOT_THIS_HEAD[case])
    corpus = f"--corpus {text_file} --sequence-length 32"
    for command in (
        "export t --output-dir out --trained-head",
        f"evaluate t --task mlm --head ticket {corpus}",
        f"compare t {corpus}",
    ):
        done = run(*command.split())
        assert done.code == 1, done
        assert "the ticket's head is not " in done.err.splitlines()[-1]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["t"]
    # Without that head the ticket is as good as any.
    assert run("export", "t", "--output-dir", "out").code == 0


def test_the_whole_head_is_taken(run: Run, ticket: Path, text_file: Path) -> None:
    corpus = f"--corpus {text_file} --sequence-length 32"
    evaluate = f"evaluate {ticket} --task mlm {corpus} --head ticket"
    for command in (f"export {ticket} --output-dir out --trained-head", evaluate):
        done = run(*command.split())
        assert done.code == 0, done.err
