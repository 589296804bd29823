"""Files of a benchmark's task with a few sentences that the tiny tokenizer knows."""

from __future__ import annotations

import random
from pathlib import Path

import tiny


def sst2_folder(folder: Path, train: int = 40, dev: int = 30) -> Path:
    """Write SST-2's files; what a sentence is about says its label."""
    folder.mkdir()
    words = random.Random(0)
    for name, count in (("train", train), ("dev", dev)):
        lines = (
            f"{'the list of' if label else 'a file to'} {' '.join(words.choices(tiny.WORDS, k=5))}"
            f"\t{label}"
            for label in words.choices((0, 1), k=count)
        )
        (folder / f"{name}.tsv").write_text("sentence\tlabel\n" + "\n".join(lines) + "\n")
    return folder
