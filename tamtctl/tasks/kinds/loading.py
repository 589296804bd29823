"""Loading an encoder with the head of a task: the checkpoint's own if it fits, else a new one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import transformers
from transformers import PreTrainedConfig, PreTrainedModel

from tamtctl.foundations.errors import ModelError
from tamtctl.models.loading import load_config, load_with_task_head
from tamtctl.tasks.kinds.class_notes import listed
from tamtctl.tasks.kinds.class_order import (
    UNNAMED,
    ClassOrder,
    class_names,
    disagreement,
    output_layer,
    reorder,
    with_new_head,
)
from tamtctl.tasks.kinds.code import kind_of
from tamtctl.tasks.kinds.label_scale import LabelScale
from tamtctl.tasks.kinds.table import KINDS
from tamtctl.tasks.task import Task

# ``problem_type`` of a configuration → what the head's outputs are, in words.
_MEANINGS = {
    "single_label_classification": "one class of several",
    "multi_label_classification": "any number of classes at once",
    "regression": "numbers",
}


def load_for_training(
    task: Task,
    name: str,
    revision: str | None = None,
    *,
    scale: LabelScale | None = None,
    note: Callable[[str], None] = lambda _: None,
) -> tuple[PreTrainedModel, set[str]]:
    """Load an encoder with a head for the task: the checkpoint's own if it fits, else a new one.

    Args:
        task: The task.
        name: ``nano``, a folder or a Hub id.
        revision: Branch, tag or commit on the Hub.
        scale: The scale of numeric labels in training; None: they are not scaled.
        note: Is given notes on the head.

    Returns:
        The model, and the names of its parameters that are random.

    Raises:
        ModelError: The model cannot be loaded.
    """
    config = load_config(name, revision)
    auto, head = _auto(task), kind_of(task).head()
    if _is_of_another_kind(task, config):
        note(f"the head of model {name} is for {_what(task, config, False)}; a new one is trained")
    if not head:
        return load_with_task_head(auto, name, revision=revision)
    order = ClassOrder.of(config, task.labels) if task.labels else None
    model, missing = load_with_task_head(
        auto, name, revision=revision, ignore_mismatched_sizes=True, **head
    )
    layer_name, layer = output_layer(model)
    if scale and layer.bias is None:
        raise ModelError(f"the head of a {type(model).__name__} cannot take the labels' mean")
    if f"{layer_name}.weight" in missing:
        return model, missing
    is_own = _has_head_of(task, config) and not _other_use(task, config)
    if is_own and order and task.labels:
        reorder(model, order, task.labels)
        if not order.are_named:
            note(f"model {name}: {UNNAMED}")
        for line in disagreement(config):
            note(f"model {name}: {line}")
        return model, missing
    is_of_numbers = is_own and not task.labels and config.num_labels == head.get("num_labels")
    if is_of_numbers and (scale is None or scale.take_out_of(model)):
        return model, missing
    if not _is_of_another_kind(task, config):
        what = _what(task, config, is_of_numbers)
        note(f"the head of model {name} is for {what}; a new one is trained")
    fresh = with_new_head(auto, model)
    prefix = fresh.base_model_prefix + "."
    return fresh, {n for n, _ in fresh.named_parameters() if not n.startswith(prefix)}


def load_fine_tuned(
    task: Task,
    name: str,
    revision: str | None = None,
    note: Callable[[str], None] = lambda _: None,
) -> PreTrainedModel:
    """Load a checkpoint that was fine-tuned on a task of the kind and the classes of ``task``.

    The rows of its head are put in the order of the task's classes.

    Args:
        task: The task.
        name: A folder or a Hub id.
        revision: Branch, tag or commit on the Hub.
        note: Is given notes on the head.

    Raises:
        ModelError: The checkpoint cannot be loaded, or has another head, or none.
    """
    config = load_config(name, revision)
    head = kind_of(task).head()
    instead = f"give a pre-trained model, or a checkpoint of {task.name}"
    found = f"model {name!r} is a {(config.architectures or [''])[0]}"
    if _is_of_another_kind(task, config):
        raise ModelError(f"{found}, whose head does not fit {task.name}; {instead}")
    is_own = bool(head) and _has_head_of(task, config)
    if is_own and (other := _other_use(task, config)):
        raise ModelError(f"{found} for {other}, which {task.name} does not ask for; {instead}")
    wanted = len(task.labels) or head.get("num_labels")
    if is_own and config.num_labels != wanted:
        raise ModelError(
            f"{found} with {config.num_labels} outputs, and {task.name} needs {wanted}; {instead}"
        )
    order = ClassOrder.of(config, task.labels) if is_own and task.labels else None
    if is_own and task.labels and order is None:
        raise ModelError(f"{found} of the classes {listed(class_names(config))}; {instead}")
    model, missing = load_with_task_head(_auto(task), name, revision=revision)
    if missing:
        raise ModelError(
            f"model {name!r} is not fine-tuned for {task.name} (it lacks {min(missing)}); "
            f"make a checkpoint with tamtctl finetune {task.name}"
        )
    if head and not is_own:
        raise ModelError(f"{found}, whose head does not fit {task.name}; {instead}")
    if order is not None:
        for line in disagreement(config):
            note(line)
        reorder(model, order, task.labels)
        if not order.are_named:
            note(UNNAMED)
    return model


def _auto(task: Task) -> Any:
    """Return the Auto class of transformers for the head of a task."""
    return getattr(transformers, f"AutoModel{KINDS[task.kind].head}")


def _has_head_of(task: Task, config: PreTrainedConfig) -> bool:
    return (config.architectures or [""])[0].endswith(KINDS[task.kind].head)


def _what(task: Task, config: PreTrainedConfig, is_of_numbers: bool) -> str:
    """Return what a checkpoint's head predicts, in words."""
    if not _has_head_of(task, config):
        return f"another kind of task ({(config.architectures or ['?'])[0]})"
    is_choice = config.problem_type == "single_label_classification"  # then the classes are named
    if not is_choice and (other := _other_use(task, config)):
        return other
    if config.num_labels == 1 and class_names(config) == ["LABEL_0"]:
        return "numbers of another size" if is_of_numbers else "a number"
    return f"the classes {listed(class_names(config))}"


def _other_use(task: Task, config: PreTrainedConfig) -> str | None:
    """Return what the outputs of a head mean, if not what the task needs; else None."""
    meaning = config.problem_type
    if not meaning or meaning == kind_of(task).head().get("problem_type"):
        return None
    return _MEANINGS.get(meaning, meaning)


def _is_of_another_kind(task: Task, config: PreTrainedConfig) -> bool:
    """Return whether a checkpoint has the head of another kind of task."""
    others = {kind.head for kind in KINDS.values()} - {KINDS[task.kind].head}
    return (config.architectures or [""])[0].endswith(tuple(others))
