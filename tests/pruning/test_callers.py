"""What a caller has done to torch changes no result, and no call changes what the caller had."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
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


@pytest.fixture(scope="module", params=["fp32", "bf16"])
def searched(
    request: pytest.FixtureRequest,
    tiny_model: Path,
    text_file: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> tuple[tamtctl.SearchConfig, tamtctl.SearchResult]:
    """A search, and its result for a caller who did nothing to torch."""
    config = small_config(tiny_model, text_file, steps=4, dropout=True, precision=request.param)
    return config, tamtctl.search(config, output_dir=tmp_path_factory.mktemp("plain") / "run")


@pytest.mark.parametrize("name", STATES)
def test_a_search_is_the_same_whatever_the_caller_did_to_torch(
    name: str,
    searched: tuple[tamtctl.SearchConfig, tamtctl.SearchResult],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    config, plain = searched
    monkeypatch.setenv("TAMTCTL_CACHE", str(Path("cache").absolute()))
    with STATES[name]():
        before = state()
        other = tamtctl.search(config, output_dir="other")
        assert state() == before
    assert plain.losses == other.losses
    masks = [Ticket.load(one.ticket).masks for one in (plain, other)]
    assert all(torch.equal(mask, masks[1][matrix]) for matrix, mask in masks[0].items())


@pytest.fixture(scope="module")
def tuned(
    tiny_model: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[tamtctl.FinetuneConfig, tamtctl.FinetuneResult]:
    """A fine-tuning, and its result for a caller who did nothing to torch."""
    folder = tmp_path_factory.mktemp("tuned")
    config = tamtctl.FinetuneConfig(
        task="sst2",
        dense=True,
        model=str(tiny_model),
        data_dir=str(sst2_folder(folder / "SST-2")),
        epochs=1,
        device="cpu",
    )
    return config, tamtctl.finetune(config, output_dir=folder / "plain")


@pytest.mark.parametrize("name", ["autocast", "inference_mode", "float64"])
def test_a_fine_tuning_is_the_same_whatever_the_caller_did_to_torch(
    name: str, tuned: tuple[tamtctl.FinetuneConfig, tamtctl.FinetuneResult]
) -> None:
    config, plain = tuned
    with STATES[name]():
        before = state()
        other = tamtctl.finetune(config, output_dir="other")
        measured = tamtctl.evaluate(
            tamtctl.EvaluateConfig(name="other/seed-1", data_dir=config.data_dir, device="cpu")
        )
        assert state() == before
    assert plain.scores == other.scores
    assert measured.metrics["accuracy"] == plain.scores[0]


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The weights of an export, for a caller who did nothing to torch."""
    folder = tmp_path_factory.mktemp("exported") / "plain"
    tamtctl.export("nano-0.8", folder)
    return (folder / "model.safetensors").read_bytes()


@pytest.mark.parametrize("name", ["autocast", "inference_mode", "float64", "meta"])
def test_an_export_is_the_same_whatever_the_caller_did_to_torch(name: str, exported: bytes) -> None:
    with STATES[name]():
        before = state()
        tamtctl.export("nano-0.8", "other")
        assert state() == before
    assert Path("other", "model.safetensors").read_bytes() == exported


def test_what_is_no_watcher_is_refused_at_once(tiny_model: Path, text_file: Path) -> None:
    config = small_config(tiny_model, text_file)
    for watcher in (tamtctl.Silent, object(), print):
        with pytest.raises(tamtctl.TamtctlError, match="with the methods of"):
            tamtctl.search(config, output_dir="run", watcher=watcher)  # type: ignore[arg-type]
    assert not Path("run").exists()


def test_a_misspelt_setting_is_named() -> None:
    with pytest.raises(tamtctl.TamtctlError, match="CompareConfig has no setting 'sparsity_'"):
        tamtctl.CompareConfig(sparsity_=[0.5])  # type: ignore[call-arg]
