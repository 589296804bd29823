"""Fine-tuning on from a model that has zeros already: they are kept, or it is said that not."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
from interrupted_finetuning import Interrupting
from samples import own_config, ticket_for
from transformers import AutoModel, AutoModelForSequenceClassification

from tamtctl.cli import app as cli
from tamtctl.foundations.errors import ModelError, TamtctlError, TicketError, UsageError
from tamtctl.models.encoder import maskable_matrices
from tamtctl.tasks.finetuning.api import finetune
from tamtctl.tasks.finetuning.config import FinetuneConfig
from tamtctl.tasks.finetuning.result import FinetuneResult
from tamtctl.ticket.exporting.checkpoint import write_checkpoint
from tamtctl.ticket.ticket import Ticket

pytestmark = pytest.mark.usefixtures("working_folder")


@pytest.fixture(scope="module")
def ticket(bare_bert: Path) -> Path:
    return ticket_for(bare_bert, bare_bert.parent / "ticket")


@pytest.fixture(scope="module")
def sparse(bare_bert: Path, ticket: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint of a first fine-tuning."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("first"))
        return finetune(own_config(bare_bert, ticket=str(ticket))).checkpoint[0].absolute()


def weights_of(result: FinetuneResult) -> dict[str, torch.Tensor]:
    model = AutoModelForSequenceClassification.from_pretrained(result.checkpoint[0])
    return {name: matrix.detach() for name, matrix in maskable_matrices(model).items()}


def has_zeros_of(ticket: Path, result: FinetuneResult) -> bool:
    loaded, weights = Ticket.load(ticket), weights_of(result)
    return all(torch.equal(weights[n] != 0, loaded.mask(n)) for n in loaded.parameters)


def said(result: FinetuneResult) -> dict[str, Any]:
    facts = json.loads((result.checkpoint[0] / "metrics.json").read_text())
    assert facts["zeros"] == result.zeros == result.to_dict()["zeros"]
    assert facts["sparsity"] == result.sparsity
    return facts  # type: ignore[no-any-return]


def test_a_fine_tuned_ticket_keeps_its_zeros(ticket: Path, sparse: Path) -> None:
    config = own_config(sparse, dense=True)
    assert "keep_zeros" not in config.to_dict()
    result = finetune(config)
    assert has_zeros_of(ticket, result)
    assert result.sparsity == pytest.approx(0.5, abs=0.01)
    assert said(result)["zeros"] == "kept"
    assert any("stay zeros; --no-keep-zeros trains them" in note for note in result.notes)
    before = maskable_matrices(AutoModel.from_pretrained(sparse))
    assert not any(torch.equal(weight, before[n]) for n, weight in weights_of(result).items())

    filled = finetune(own_config(sparse, dense=True, keep_zeros=False))
    assert filled.run_folder != result.run_folder
    assert (filled.sparsity, said(filled)["zeros"]) == (0.0, "trained")
    assert any("trained like all others and filled in" in note for note in filled.notes)
    assert not has_zeros_of(ticket, filled)
    third = finetune(own_config(filled.checkpoint[0], dense=True))
    assert third.sparsity == 0.0  # although the zeros of words that no text has are still there
    assert third.zeros == "trained"


def test_an_interrupted_run_keeps_them_too(ticket: Path, sparse: Path) -> None:
    config = own_config(sparse, dense=True, epochs=4, checkpoint_every=3)
    whole = finetune(config, output_dir="whole")
    with pytest.raises(EOFError):
        finetune(config, output_dir="run", watcher=Interrupting(10))
    result = finetune(config, output_dir="run")
    assert has_zeros_of(ticket, result)
    assert all(torch.equal(w, weights_of(whole)[n]) for n, w in weights_of(result).items())


def test_an_exported_checkpoint_keeps_its_zeros(ticket: Path, tmp_path: Path) -> None:
    write_checkpoint(ticket, tmp_path / "exported")
    result = finetune(own_config(tmp_path / "exported", dense=True, seeds=(1, 2)))
    assert has_zeros_of(ticket, result)
    assert said(result)["zeros"] == "kept"


@pytest.mark.parametrize("encoding", ["bits", "delta"])
def test_a_ticket_goes_on_with_what_was_trained_with_it(
    encoding: str, bare_bert: Path, ticket: Path, sparse: Path, tmp_path: Path
) -> None:
    given = ticket_for(bare_bert, tmp_path / "ticket", encoding=encoding)
    result = finetune(own_config(sparse, ticket=str(given)))
    assert has_zeros_of(ticket, result)
    assert any("was trained with this ticket before" in note for note in result.notes)
    assert said(result)["zeros"] == "kept"
    other = ticket_for(bare_bert, tmp_path / "other", sparsity=0.7)
    with pytest.raises(TicketError, match=r"the ticket does not fit model .* before fine-tuning"):
        finetune(own_config(sparse, ticket=str(other)))


def test_few_zeros_are_kept_if_a_run_says_so(bare_bert: Path, tmp_path: Path) -> None:
    given = ticket_for(bare_bert, tmp_path / "ticket", sparsity=0.05)
    first = finetune(own_config(bare_bert, ticket=str(given)))
    second = finetune(own_config(first.checkpoint[0]))  # without --dense, too
    assert has_zeros_of(given, second)
    (first.checkpoint[0] / "metrics.json").unlink()
    other = finetune(own_config(first.checkpoint[0], dense=True), force=True)
    assert other.zeros == "trained"
    assert any("5% of the weights" in n and "--keep-zeros keeps" in n for n in other.notes)
    assert has_zeros_of(given, finetune(own_config(first.checkpoint[0], keep_zeros=True)))


def test_zeros_that_were_not_pruned_are_left_alone(bare_bert: Path, tmp_path: Path) -> None:
    model = AutoModel.from_pretrained(bare_bert)
    with torch.no_grad():
        model.get_input_embeddings().weight[:30] = 0  # words that no text has
    model.save_pretrained(tmp_path / "padded")
    tiny.tokenizer().save_pretrained(tmp_path / "padded")
    result = finetune(own_config(tmp_path / "padded", dense=True))
    assert (result.sparsity, result.zeros) == (0.0, None)
    assert not any("zeros" in note for note in result.notes)
    assert (weights_of(result)["embeddings.word_embeddings.weight"] != 0).any(dim=1).sum() > 54
    with pytest.raises(ModelError, match="holds no zeros to keep; leave --keep-zeros out"):
        finetune(own_config(tmp_path / "padded", keep_zeros=True))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"ticket": "t", "keep_zeros": True}, "keeps its own zeros .* leave --keep-zeros out"),
        ({"ticket": "t", "keep_zeros": False}, "leave --no-keep-zeros out"),
        ({"dense": True, "keep_zeros": True}, "give the --model"),
    ],
)
def test_requests_that_contradict_themselves(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        FinetuneConfig(task="sst2", **changes)


def test_a_model_without_a_ticket_at_hand_is_refused(bare_bert: Path, tmp_path: Path) -> None:
    with pytest.raises(TamtctlError, match=r"no ticket of model .* at hand"):
        finetune(own_config(bare_bert))


def test_the_command_says_it(
    sparse: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    own_config(sparse)  # writes the examples
    options = ["--train", "own.jsonl", "--dev", "own.jsonl", "--epochs", "1", "--threads", "1"]

    def run(*more: str) -> tuple[str, str]:
        arguments = ["tamtctl", "finetune", "--model", str(sparse), *options, *more]
        monkeypatch.setattr(sys, "argv", arguments)
        with pytest.raises(SystemExit) as ended:
            cli.main()
        assert ended.value.code == 0
        captured = capsys.readouterr()
        return captured.out, captured.err

    out, err = run()
    assert f"model {sparse}, a fine-tuned checkpoint" in err
    assert f"{sparse}, sparsity 0.5, its own zeros" in err
    assert "--no-keep-zeros trains them" in err
    assert "sparsity 0.5" in " ".join(out.split())
    out, err = run("--no-keep-zeros", "--json")
    assert "--keep-zeros keeps them" in err
    assert json.loads(out)["zeros"] == "trained"
