"""Small sentence encoders, as sentence-transformers saves them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import tiny
import torch
from safetensors.torch import save_file
from torch import nn

TEXTS = ["the list of file names", "a", "is this it", "", "name type set value data time " * 9]


def sentence_model(
    folder: Path,
    pooling: dict[str, Any],
    *,
    modules: tuple[str, ...] = (),
    encoder: str = "",
    **files: dict[str, Any],
) -> Path:
    """Save a tiny model of sentence-transformers; ``files`` are its further ``.json`` files."""
    tiny.save(folder / encoder, "bert", with_head=False)
    return with_modules(folder, pooling, modules=modules, encoder=encoder, **files)


def with_modules(
    folder: Path,
    pooling: dict[str, Any],
    *,
    modules: tuple[str, ...] = (),
    encoder: str = "",
    **files: dict[str, Any],
) -> Path:
    """Put beside an encoder what makes a model of sentence-transformers of it."""
    kinds = ["Transformer", "Pooling", *modules]
    paths = [encoder, *(f"{i}_{kind}" for i, kind in enumerate(kinds[1:], start=1))]
    listed = [
        {"idx": i, "name": str(i), "path": path, "type": f"sentence_transformers.models.{kind}"}
        for i, (kind, path) in enumerate(zip(kinds, paths, strict=True))
    ]
    (folder / "modules.json").write_text(json.dumps(listed))
    (folder / "1_Pooling").mkdir()
    (folder / "1_Pooling" / "config.json").write_text(json.dumps(pooling))
    for name, values in files.items():
        (folder / f"{name}.json").write_text(json.dumps(values))
    return folder


def dense_layer(folder: Path, activation: str = "Tanh", *, as_bin: bool = False) -> nn.Linear:
    torch.manual_seed(5)
    layer = nn.Linear(16, 4)
    folder.mkdir()
    values = {
        "in_features": 16,
        "out_features": 4,
        "bias": True,
        "activation_function": f"torch.nn.modules.activation.{activation}",
    }
    (folder / "config.json").write_text(json.dumps(values))
    weights = {f"linear.{name}": p.detach() for name, p in layer.named_parameters()}
    if as_bin:
        torch.save(weights, folder / "pytorch_model.bin")
    else:
        save_file(weights, folder / "model.safetensors")
    return layer


def similar_pairs() -> None:
    generator = np.random.default_rng(2)
    rows = ["sentence1\tsentence2\tscore"]
    for i in range(24):
        a, b = (" ".join(map(str, generator.choice(tiny.WORDS, 5))) for _ in range(2))
        rows.append(f"{a}\t{b}\t{i % 6}")
    Path("dev.tsv").write_text("\n".join(rows))
