"""Library calls in several threads do what they do one after the other."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from samples import own_config
from small_search import bits, small_config

from tamtctl.models.loading import load_encoder
from tamtctl.pruning.searching.api import search
from tamtctl.tasks.finetuning.api import finetune


def at_once(*calls: Callable[[], object]) -> list[object]:
    """Return what every call returned, or its error, each in a thread of its own."""
    outcomes: list[object] = [None] * len(calls)
    barrier = threading.Barrier(len(calls))

    def run(number: int) -> None:
        barrier.wait()
        try:
            outcomes[number] = calls[number]()
        except Exception as error:
            outcomes[number] = error

    threads = [threading.Thread(target=run, args=(i,)) for i in range(len(calls))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return outcomes


def test_models_are_loaded_whole(tiny_model: Path) -> None:
    before = load_encoder(str(tiny_model), with_head=True).weights

    def load() -> Any:
        return load_encoder(str(tiny_model), with_head=True).weights

    for weights in (*at_once(*[load] * 4), *at_once(*[load] * 4), load()):
        assert isinstance(weights, dict), weights
        assert all(torch.equal(weights[name], weight) for name, weight in before.items())


def test_searches_and_fine_tuning_give_the_same_bits(
    tiny_model: Path, text_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Dropout and new heads draw from random numbers of which there is one sequence."""
    monkeypatch.chdir(tmp_path)
    configs = [
        small_config(tiny_model, text_file, steps=12, dropout=True, seed=seed) for seed in (1, 2)
    ]
    own = own_config(tiny_model, dense=True)

    def searched(number: int, to: str) -> Callable[[], object]:
        return lambda: bits(search(configs[number], output_dir=Path(f"{to}-{number}")).ticket)

    def fine_tuned(to: str) -> Callable[[], object]:
        return lambda: load_file(
            finetune(own, output_dir=Path(to)).checkpoint[0] / "model.safetensors"
        )

    alone = [searched(0, "alone")(), searched(1, "alone")(), fine_tuned("alone-f")()]
    together = at_once(searched(0, "both"), searched(1, "both"), fine_tuned("both-f"))
    assert together[:2] == alone[:2]
    assert isinstance(together[2], dict), together[2]
    assert isinstance(alone[2], dict)
    assert all(torch.equal(together[2][name], weight) for name, weight in alone[2].items())
