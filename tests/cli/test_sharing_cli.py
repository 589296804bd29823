"""Inspect, list, export, import and push on the command line: what is printed, and how it fails."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from command_line import Outcome, Run, runner
from huggingface_hub import constants
from masks import magnitude_masks
from small_tickets import small_ticket

from tamtctl.models.loading import load_encoder
from tamtctl.ticket.ticket import Ticket


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Run:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub-cache"))
    return runner(monkeypatch, capsys)


@pytest.fixture
def nano(tmp_path: Path) -> Path:
    """A folder with a magnitude ticket of nano as it is, as ``delta``, and a damaged one."""
    weights = load_encoder("nano", with_head=False).weights
    ticket = Ticket.create(
        weights, magnitude_masks(weights, 0.7), base_model_id="nano", revision=None,
        model_type="bert", target_sparsity=0.7, method="magnitude", objective=None, search={},
        metrics={},
    )  # fmt: skip
    ticket.save_pretrained(tmp_path / "bits")
    ticket.encode("delta", weights).save_pretrained(tmp_path / "delta")
    small_ticket(mlm_head={"b": torch.ones(1)}).save_pretrained(tmp_path / "damaged")
    (tmp_path / "damaged" / "mask.safetensors").write_bytes(b"")
    return tmp_path


def error_of(outcome: Outcome, code: int = 1) -> str:
    assert outcome.code == code, outcome
    assert outcome.err.startswith("error: ")
    assert outcome.err.count("\n") == 1
    return outcome.err


@pytest.mark.renders
def test_inspect(run: Run, nano: Path) -> None:
    one = run("inspect", "delta")
    assert one.code == 0
    assert " kB, intact)" in one.out
    assert "stored as delta" in one.out
    assert "not checked: it takes the weights of nano" in one.out
    assert "is damaged" in error_of(run("inspect", "damaged"))
    assert run("inspect", "bits", "-q").out == "valid\n"

    two = run("inspect", "bits", "delta", "--json", "--figure", "map.svg")
    assert two.code == 0, two.err
    found = json.loads(two.out)
    assert found["similarities"][0]["average"]["jaccard"] == 1
    assert found["tickets"][1]["types"]["attention.self.query"] == pytest.approx(0.7, abs=1e-3)
    assert (nano / "map.svg").stat().st_size > 1000
    shown = run("inspect", "bits", "delta").out
    for expected in ("Jaccard", "by chance", "0.1765", "attention.self.query", "1   bits: "):
        assert expected in shown
    assert "must end in .png or .svg" in error_of(run("inspect", "bits", "--figure", "x.pdf"), 2)
    assert "'damaged': mask.safetensors is damaged" in error_of(run("inspect", "bits", "damaged"))


def test_export_and_import(run: Run, nano: Path) -> None:
    done = run("export", "delta", "--output-dir", "checkpoint")
    assert done.code == 0, done.err
    assert "BertForMaskedLM" in done.out
    assert "do not by themselves make a model smaller or faster" in done.out
    size = sum(file.stat().st_size for file in (nano / "checkpoint").iterdir())
    assert f"{size / 1e6:.1f} MB" in done.out
    assert "is not empty" in error_of(run("export", "bits", "--output-dir", "checkpoint"))
    assert "--head must be one of" in error_of(
        run("export", "bits", "--output-dir", "x", "--head", "y"), 2
    )

    back = run("import", "checkpoint", "--model", "nano", "--output-dir", "t", "--json")
    assert back.code == 0, back.err
    assert json.loads(back.out)["kind"] == "zeros of a checkpoint"
    masks, expected = (Ticket.load(nano / name).masks for name in ("t", "bits"))
    weights = load_encoder("nano", with_head=False).weights  # a zero of its own is not pruned
    for name, mask in expected.items():
        assert torch.equal(masks[name], mask | (weights[name] == 0))
    recoded = run("import", "t", "--output-dir", "u", "--encoding", "zstd", "-q")
    assert recoded.out == "u\n"
    assert Ticket.load(nano / "u").encoding == "zstd"
    assert "there is no file" in error_of(
        run("import", "no", "--model", "nano", "--output-dir", "v")
    )
    assert "did you mean zstd" in error_of(
        run("import", "t", "--output-dir", "v", "--encoding", "ztd"), 2
    )


def test_push_without_a_hub(run: Run, nano: Path) -> None:
    planned = run("push", "bits", "me/nano", "--dry-run")
    assert planned.code == 0, planned.err
    assert "mask.safetensors" in planned.out
    assert "nothing was sent" in planned.out
    as_delta = run("push", "bits", "me/nano", "--dry-run", "--encoding", "delta", "--json")
    assert json.loads(as_delta.out)["files"]["mask.safetensors"] < 20_000
    assert "HF_HUB_OFFLINE is set" in error_of(run("push", "bits", "me/nano", "--token", "hf_x"))
    assert "is damaged" in error_of(run("push", "damaged", "me/nano", "--token", "hf_x"))


def test_names_that_lead_nowhere(run: Run, nano: Path) -> None:
    assert "and packaged are:" in error_of(run("inspect", "unknown"))
    line = error_of(run("inspect", "org/unknown"))
    assert "no folder 'org/unknown' here, and org/unknown was not fetched before" in line
    assert "give one like org/name" in error_of(run("pull", "unknown"), 2)


def test_list(run: Run, nano: Path) -> None:
    assert run("list", "-q").code == 0
    assert "HF_HUB_OFFLINE is set" in error_of(run("list", "--hub"))
