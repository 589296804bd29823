"""The last layer of a task's head, and which of its rows stands for which class.

A checkpoint names its classes in ``id2label``, in an order of its own. The rows of a head that is
used or trained further are put in the order of the task's classes.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedConfig, PreTrainedModel

from tamtctl.foundations.errors import ModelError
from tamtctl.models.encoder import base_encoder

UNNAMED = "the checkpoint does not name its classes; they are taken in the task's order"


@dataclass(frozen=True)
class ClassOrder:
    """The order of a task's classes in a checkpoint.

    Attributes:
        rows: For each class of the task, its row in the checkpoint's head.
        are_named: Whether the checkpoint names its classes; else the task's order is assumed.
    """

    rows: tuple[int, ...]
    are_named: bool

    @classmethod
    def of(cls, config: PreTrainedConfig, labels: Sequence[str]) -> ClassOrder | None:
        """Return the order of a task's classes in a checkpoint, None if it has other classes."""
        names = class_names(config)
        ids = [int(i) for i in config.id2label or {}]
        if len(names) != len(labels) or sorted(ids) != list(range(len(ids))):
            return None
        for spelt in (str, _plainly):  # exactly, else without regard to case
            own, wanted = [spelt(name) for name in names], [spelt(label) for label in labels]
            if set(own) == set(wanted) and len(set(own)) == len(own):
                return cls(tuple(own.index(label) for label in wanted), are_named=True)
        if all(re.fullmatch(rf"(label[ _-]?)?{i}", name.lower()) for i, name in enumerate(names)):
            return cls(tuple(range(len(labels))), are_named=False)
        return None


def class_names(config: PreTrainedConfig) -> list[str]:
    """Return the names of a checkpoint's classes, in the order of their ids.

    If ``id2label`` has only the default names LABEL_0 and so on, ``label2id`` may have better ones.
    """
    names = [str(label) for _, label in sorted((config.id2label or {}).items())]
    if all(re.fullmatch(r"label_\d+", name.lower()) for name in names):
        ids = _ids(config)
        if sorted(ids.values()) == list(range(len(names))):
            return sorted(ids, key=lambda name: ids[name])
    return names


def _ids(config: PreTrainedConfig) -> dict[str, int]:
    """Return name of a class → its id, as ``label2id`` says; empty if it says something else."""
    try:
        return {str(name): int(i) for name, i in (config.label2id or {}).items()}
    except (TypeError, ValueError, AttributeError):
        return {}


def _plainly(name: str) -> str:
    return re.sub(r"[\s_-]+", "_", unicodedata.normalize("NFKC", name).strip().casefold())


def disagreement(config: PreTrainedConfig) -> list[str]:
    """Return a note if a checkpoint's ``id2label`` and ``label2id`` contradict each other."""
    rows = {str(label): int(i) for i, label in (config.id2label or {}).items()}
    others = _ids(config)
    if rows.keys() != others.keys() or rows == others:
        return []
    return ["the checkpoint's id2label and label2id contradict each other; id2label is followed"]


def output_layer(model: PreTrainedModel) -> tuple[str, nn.Linear]:
    """Return name and module of the linear layer that computes a model's output.

    Raises:
        ModelError: The head does not end in a linear layer.
    """
    prefix, base = model.base_model_prefix + ".", base_encoder(model)
    linear = [
        (name, module)
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear) and not name.startswith(prefix) and base is not model
    ]
    if not linear or linear[-1][1].out_features != model.config.num_labels:
        raise ModelError(
            f"the head of a {type(model).__name__} does not end in a linear layer with its "
            f"{model.config.num_labels} outputs; take a model of another family"
        )
    return linear[-1]


def reorder(model: PreTrainedModel, order: ClassOrder, labels: Sequence[str]) -> None:
    """Put the rows of a head in the order of the task's classes, and name the classes."""
    _, layer = output_layer(model)
    rows = list(order.rows)
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.copy_(parameter[rows].clone())
    model.config.id2label = dict(enumerate(labels))
    model.config.label2id = {label: i for i, label in enumerate(labels)}


def with_new_head(auto: Any, model: PreTrainedModel) -> PreTrainedModel:
    """Return a model with the same encoder and a random head."""
    fresh: PreTrainedModel = auto.from_config(
        model.config, dtype=torch.float32, trust_remote_code=False
    )
    base_encoder(fresh).load_state_dict(base_encoder(model).state_dict())
    return fresh
