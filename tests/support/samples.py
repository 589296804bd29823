"""Small tickets, labelled files and configurations for fine-tuning and evaluating tiny models."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from masks import random_masks
from tiny import WORDS

from tamtctl.models.loading import load_encoder
from tamtctl.tasks.finetuning.config import FinetuneConfig
from tamtctl.ticket.ticket import Ticket


def ticket_for(model: Path, to: Path, sparsity: float = 0.5, encoding: str = "bits") -> Path:
    encoder = load_encoder(str(model), with_head=False)
    ticket = Ticket.create(
        encoder.weights,
        random_masks(encoder.weights, sparsity, seed=3),
        base_model_id=str(model),
        revision=None,
        model_type=encoder.model.config.model_type,
        target_sparsity=sparsity,
        method="random",
        objective=None,
        search={},
        metrics={},
    )
    ticket.encode(encoding, encoder.weights).save_pretrained(to)
    return to


def examples_file(path: Path, count: int = 24) -> Path:
    """Sentences that are about lists, or about files, and say so."""
    generator = np.random.default_rng(0)
    rows = []
    for number in range(count):
        filler = [str(word) for word in generator.choice(WORDS[:20], 4)]
        topic = ("list", "file")[number % 2]
        rows.append(json.dumps({"text": " ".join([*filler, topic]), "label": topic}))
    path.write_text("\n".join(rows))
    return path


def own_config(model: Path, **changes: Any) -> FinetuneConfig:
    data = str(examples_file(Path("own.jsonl")))
    values: dict[str, Any] = {
        "task": "own",
        "train": data,
        "dev": data,
        "model": str(model),
        "epochs": 1,
        "batch_size": 8,
        "learning_rate": 1e-2,
        "threads": 1,
    }
    return FinetuneConfig(**(values | changes))


def squad_folder(folder: Path) -> Path:
    context = "the file name is a list of data and the type is set " * 2
    answers = [{"text": "a list", "answer_start": context.index("a list")}]
    question = {"id": "q", "question": "which name", "answers": answers}
    paragraphs = [{"context": context, "qas": [question | {"id": f"q{i}"}]} for i in range(6)]
    folder.mkdir()
    for split in ("train", "dev"):
        text = json.dumps({"data": [{"paragraphs": paragraphs}]})
        (folder / f"{split}-v1.1.json").write_text(text)
    return folder
