"""What a caller has done to torch changes no result, and no call changes what the caller had."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path

import pytest
import torch
from small_search import small_config
from small_tasks import sst2_folder

import tamtctl
from tamtctl.ticket.ticket import Ticket

pytestmark = pytest.mark.usefixtures("working_folder")


@contextmanager
def doubles() -> Iterator[None]:
    torch.set_default_dtype(torch.float64)
    try:
        yield
    finally:
        torch.set_default_dtype(torch.float32)


STATES: dict[str, Callable[[], AbstractContextManager[object]]] = {
    "autocast": lambda: torch.autocast("cpu", torch.bfloat16),
    "no_grad": torch.no_grad,
    "inference_mode": torch.inference_mode,
    "float64": doubles,
    "meta": lambda: torch.device("meta"),
}


def state() -> tuple[object, ...]:
    """Return what a call could leave behind."""
    return (
        torch.get_default_dtype(),
        torch.get_default_device(),
        torch.is_grad_enabled(),
        torch.is_inference_mode_enabled(),
        torch.is_autocast_enabled("cpu"),
        torch.get_rng_state().tolist(),
    )


@pytest.mark.parametrize("name", STATES)
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_search_is_the_same_whatever_the_caller_did_to_torch(
    name: str, precision: str, tiny_model: Path, text_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = small_config(tiny_model, text_file, steps=4, dropout=True, precision=precision)
    found = {}
    for when in ("plain", name):
        monkeypatch.setenv("TAMTCTL_CACHE", str(Path(f"cache-{when}").absolute()))
        with nullcontext() if when == "plain" else STATES[name]():
            before = state()
            found[when] = tamtctl.search(config, output_dir=when)
            assert state() == before
    plain, other = found.values()
    assert plain.losses == other.losses
    masks = [Ticket.load(one.ticket).masks for one in (plain, other)]
    assert all(torch.equal(mask, masks[1][matrix]) for matrix, mask in masks[0].items())


@pytest.mark.parametrize("name", ["autocast", "inference_mode", "float64"])
def test_a_fine_tuning_is_the_same_whatever_the_caller_did_to_torch(
    name: str, tiny_model: Path, tmp_path: Path
) -> None:
    data = sst2_folder(tmp_path / "SST-2")
    config = tamtctl.FinetuneConfig(
        task="sst2", dense=True, model=str(tiny_model), data_dir=str(data), epochs=1, device="cpu"
    )
    plain = tamtctl.finetune(config, output_dir="plain")
    with STATES[name]():
        before = state()
        other = tamtctl.finetune(config, output_dir="other")
        measured = tamtctl.evaluate(
            tamtctl.EvaluateConfig(name="other/seed-1", data_dir=str(data), device="cpu")
        )
        assert state() == before
    assert plain.scores == other.scores
    assert measured.metrics["accuracy"] == plain.scores[0]


@pytest.mark.parametrize("name", ["autocast", "inference_mode", "float64", "meta"])
def test_an_export_is_the_same_whatever_the_caller_did_to_torch(name: str) -> None:
    tamtctl.export("nano-0.8", "plain")
    with STATES[name]():
        before = state()
        tamtctl.export("nano-0.8", "other")
        assert state() == before
    written = [Path(folder, "model.safetensors").read_bytes() for folder in ("plain", "other")]
    assert written[0] == written[1]


def test_what_is_no_watcher_is_refused_at_once(tiny_model: Path, text_file: Path) -> None:
    config = small_config(tiny_model, text_file)
    for watcher in (tamtctl.Silent, object(), print):
        with pytest.raises(tamtctl.TamtctlError, match="with the methods of"):
            tamtctl.search(config, output_dir="run", watcher=watcher)  # type: ignore[arg-type]
    assert not Path("run").exists()


def test_a_misspelt_setting_is_named() -> None:
    with pytest.raises(tamtctl.TamtctlError, match="CompareConfig has no setting 'sparsity_'"):
        tamtctl.CompareConfig(sparsity_=[0.5])  # type: ignore[call-arg]
