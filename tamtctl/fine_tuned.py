"""Checkpoints with the head of a task: what they were fine-tuned on, and what they say."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

from torch import nn
from transformers import PreTrainedModel

from tamtctl.config import OBJECTIVES, EvaluateConfig
from tamtctl.devices import Compute
from tamtctl.errors import ModelError, UsageError
from tamtctl.models import load_tokenizer
from tamtctl.paths import expanded
from tamtctl.plain_files import read_regular
from tamtctl.task_data import Examples, TaskData, open_dev_file, open_task
from tamtctl.task_models import (
    SEED_METRICS,
    Encoding,
    Predictions,
    class_names,
    load_fine_tuned,
    predict,
)
from tamtctl.tasks import PYTHON_DOCS_TOPIC, STSB_ZERO_SHOT, TASKS, Task, find_task
from tamtctl.ticket import Ticket

MAX_FACTS_BYTES = 2**24

# Kinds of tasks that an option may be for.
PUBLIC, OWN = "the tasks of GLUE and SQuAD", "tasks of your own"


@dataclass(frozen=True)
class FineTuned:
    """A checkpoint with the head of a task.

    Attributes:
        name: Folder or Hub id.
        task: With the classes that it tells apart.
        facts: What its run wrote down; empty if no run of ours made it.
    """

    name: str
    task: Task
    facts: Mapping[str, Any]

    @classmethod
    def find(cls, name: str) -> FineTuned | None:
        """Return the checkpoint of a fine-tuning run, or None if ``name`` is none.

        Raises:
            ModelError: It is the run itself, or damaged.
        """
        folder = expanded(name)
        if seeds := sorted(folder.glob(f"seed-*/{SEED_METRICS}")):
            checkpoints = ", ".join(str(file.parent) for file in seeds)
            raise ModelError(f"{name!r} is a run; its checkpoints are {checkpoints}")
        file = folder / SEED_METRICS
        try:
            facts = json.loads(read_regular(file, MAX_FACTS_BYTES))
            values = facts["task"]
            tuples = {key: tuple(v) for key, v in values.items() if isinstance(v, list)}
            return cls(name, Task(**(values | tuples)), facts)
        except PermissionError:
            raise
        except OSError:
            return None
        except (ValueError, KeyError, TypeError) as error:
            raise ModelError(f"{file} is damaged ({error}); fine-tune again") from error

    @classmethod
    def choose(
        cls, config: EvaluateConfig, found: FineTuned | None, ticket: Ticket | None
    ) -> FineTuned:
        """Return the checkpoint as one of the task that is asked for."""
        name, asked = config.name, config.task
        if found and asked in (None, found.task.name):
            return found
        task = find_task(asked, *OBJECTIVES, STSB_ZERO_SHOT) if asked else None
        if ticket:
            on, wanted = (f" on {task.name}", task.name) if task else ("", "TASK")
            raise UsageError(
                f"{name} is a ticket, which is not fine-tuned{on} yet: "
                f"tamtctl finetune {wanted} --ticket {name}"
            )
        if task is None:
            raise UsageError(f"{name} does not say what it was fine-tuned on; give its --task")
        if found:
            raise ModelError(
                f"{name} was fine-tuned on {found.task.name}, not on {task.name}; "
                f"make a checkpoint with tamtctl finetune {task.name}"
            )
        return cls(name, task, {})

    @property
    def kind(self) -> str:
        """The kind of its task; python-docs-topic, which has no files, is one by itself."""
        if self.task.name == PYTHON_DOCS_TOPIC:
            return PYTHON_DOCS_TOPIC
        return PUBLIC if self.task.name in TASKS else OWN

    @property
    def sparsity(self) -> float | None:
        """Share of zeros in the masked matrices, if the run wrote it down."""
        return self.facts.get("sparsity")

    def data(self, config: EvaluateConfig) -> TaskData:
        """Find the data to score on: what is asked for, else what the run used."""
        used = self.facts.get("config", {}) | self.facts.get("files", {})
        if self.task.name in TASKS:
            data_dir = config.data_dir or used.get("data_dir")
            data = open_task(TASKS[self.task.name], Path(data_dir) if data_dir else None)
            if self.task.labels and data.task.labels != self.task.labels:
                raise ModelError(
                    f"{config.name} was fine-tuned on other classes of {self.task.name} "
                    f"({', '.join(self.task.labels)}); fine-tune again"
                )
            return data
        task = replace(
            self.task,
            columns=self.columns(config),
            label_column=config.label_column or self.task.label_column,
        )
        return open_dev_file(task, expanded(config.dev or used.get("dev", "")))

    def columns(self, config: EvaluateConfig) -> tuple[str, ...]:
        """Return the columns to read texts from: those asked for, else the task's."""
        own = self.task.columns
        columns = config.text_columns or own
        if len(columns) != len(own):
            raise UsageError(
                f"{self.task.name} reads {' and '.join(own)}; give --text-column "
                f"{len(own)} times, not {len(columns)}"
            )
        return columns

    def predict(self, config: EvaluateConfig, examples: Examples) -> Predictions:
        """Load the checkpoint and return what it says."""
        compute = Compute.choose(config.device, config.precision, config.threads)
        model = load_fine_tuned(self.task, self.name)
        encoding = Encoding.of(self.task, model, load_tokenizer(self.name))
        cast(nn.Module, model).to(compute.device)
        found = predict(
            encoding, model, examples, batch_size=config.batch_size, autocast=compute.autocast
        )
        return _in_order_of(self.task, model, found)


def _in_order_of(task: Task, model: PreTrainedModel, found: Predictions) -> Predictions:
    """Return predictions as ids of the task's classes, whose order may not be the checkpoint's."""
    names, wanted = class_names(model.config), [label.lower() for label in task.labels]
    if task.kind != "classification" or names in (None, wanted):
        return found
    assert names is not None  # and has the same names, or it would not have been loaded
    place = [names.index(label) for label in wanted]  # of each class in the checkpoint
    return Predictions(
        [place.index(value) for value in found.values],
        [[row[i] for i in place] for row in found.confidences],
    )
