"""A comparison with all its figures, made once: that takes some seconds."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from small_search import RECIPE
from small_tasks import sst2_folder

from tamtctl.comparison.api import compare
from tamtctl.comparison.config import CompareConfig
from tamtctl.comparison.result import Comparison


@pytest.fixture(scope="session")
def compared(
    tiny_model: Path, text_file: Path, tmp_path_factory: pytest.TempPathFactory
) -> Comparison:
    """A sweep with every option that gives a section something to say, and a search of no use."""
    folder = tmp_path_factory.mktemp("compared")
    (folder / "tiny.toml").write_text(RECIPE.replace("5e-3", "1e-9"))
    config = CompareConfig(
        sparsities=(0.5, 0.7),
        methods=("tamt-mlm", "imp", "obs", "magnitude", "random"),
        recipe=str(folder / "tiny.toml"),
        model=str(tiny_model),
        corpus=(str(text_file),),
        at_steps=(3,),
        keep_scores=True,
        tasks=("sst2",),
        data_dir=str(sst2_folder(folder / "SST-2", train=8, dev=4)),
        task_epochs=1,
        task_learning_rate=1e-9,
        task_seeds=(1,),
        evaluation_blocks=12,
        device="cpu",
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        found = compare(config)
    return replace(found, folder=folder / found.folder)
