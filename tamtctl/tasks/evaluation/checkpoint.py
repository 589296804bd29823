"""Checkpoints with the head of a task: what they were fine-tuned on, and their predictions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from transformers import PreTrainedModel

from tamtctl.data.padded_batches import Features
from tamtctl.foundations.devices import Compute
from tamtctl.foundations.errors import ModelError, UsageError
from tamtctl.foundations.paths import expanded
from tamtctl.models.loading import load_tokenizer
from tamtctl.models.sentence_embeddings import SentencePipeline
from tamtctl.models.text_inputs import TextInputs
from tamtctl.tasks.benchmarks.table import BENCHMARKS, all_without_training
from tamtctl.tasks.constant_answer import DEV, ConstantAnswer
from tamtctl.tasks.evaluation.config import EvaluateConfig
from tamtctl.tasks.examples import Examples
from tamtctl.tasks.finetuning.known_runs import KnownRun, beside_checkpoint
from tamtctl.tasks.kinds.base import Predictions
from tamtctl.tasks.kinds.code import kind_of
from tamtctl.tasks.kinds.loading import load_fine_tuned
from tamtctl.tasks.kinds.predicting import predict
from tamtctl.tasks.labelled.notes import cut_notes
from tamtctl.tasks.labelled.opening import open_dev_file, open_task
from tamtctl.tasks.labelled.records import TaskData
from tamtctl.tasks.registry import TASKS, find_task
from tamtctl.tasks.run_facts import SEED_METRICS, RunFacts
from tamtctl.tasks.task import Task
from tamtctl.ticket.ticket import Ticket

# Groups of tasks that an option may be for, as errors name them.
PUBLIC, OWN = "the tasks of GLUE and SQuAD", "tasks of your own"


@dataclass(frozen=True)
class FineTuned:
    """A checkpoint with the head of a task.

    Attributes:
        name: Folder or Hub id.
        task: The task, with the classes of the checkpoint.
        facts: What its fine-tuning run recorded; None if it is from elsewhere.
    """

    name: str
    task: Task
    facts: RunFacts | None

    @classmethod
    def find(cls, name: str) -> FineTuned | None:
        """Return the checkpoint of a fine-tuning run, or None if ``name`` is none.

        Raises:
            ModelError: ``name`` is the folder of a whole run, or the checkpoint is damaged.
        """
        folder = expanded(name)
        if seeds := sorted(folder.glob(f"seed-*/{SEED_METRICS}")):
            checkpoints = ", ".join(str(file.parent) for file in seeds)
            raise ModelError(f"{name!r} is a run; its checkpoints are {checkpoints}")
        facts = RunFacts.read(folder)
        return None if facts is None else cls(name, facts.task, facts)

    @classmethod
    def choose(
        cls, config: EvaluateConfig, found: FineTuned | None, ticket: Ticket | None
    ) -> FineTuned:
        """Return the checkpoint; one that `finetune` did not make gets the task that is asked for.

        Args:
            config: Names the checkpoint, and the task if it is asked for.
            found: The checkpoint as `find` found it.
            ticket: The ticket of that name, if it is one.

        Raises:
            UsageError: The name is that of a ticket; or the checkpoint does not state its task, and
                none is asked for.
            ModelError: The checkpoint was fine-tuned on another task.
        """
        name, asked = config.name, config.task
        if found and asked in (None, found.task.name):
            return found
        task = find_task(asked, *all_without_training()) if asked else None
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
        return cls(name, task, None)

    @property
    def kind(self) -> str:
        """The kind by which `check_options` decides: ``PUBLIC``, ``OWN``, or a made benchmark."""
        name = self.task.name
        if name not in TASKS:
            return OWN
        return name if BENCHMARKS[name].code else PUBLIC

    @property
    def sparsity(self) -> float | None:
        """Share of zeros in the masked matrices; None if the run did not record it."""
        return self.facts.sparsity if self.facts else None

    def data(self, config: EvaluateConfig) -> TaskData:
        """Find the data to measure on: those asked for, else those of the run.

        Raises:
            ModelError: The task has other classes than the checkpoint.
            TaskError: The data cannot be found.
        """
        if self.task.name in TASKS:
            data_dir = config.data_dir or (self.facts and self.facts.data_dir)
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
        return open_dev_file(task, expanded(config.dev or (self.facts and self.facts.dev) or ""))

    def change_of(self, split: str, examples: Examples, config: EvaluateConfig) -> str | None:
        """Return a note if these are not the examples that the run was scored on."""
        known = self.facts.sha256.get(split) if self.facts else None
        is_other_on_purpose = config.dev or config.text_columns or config.label_column
        if known is None or is_other_on_purpose or known == examples.sha256:
            return None
        return (
            f"these {len(examples)} examples of the split {split} are not those that the run of "
            f"{self.name} was scored on"
        )

    def constant_answer(self, task: Task, examples: Examples) -> ConstantAnswer:
        """Return the most likely answer of the training set; if unknown, of these examples."""
        if self.facts and self.facts.constant is not None:
            return ConstantAnswer(self.facts.constant)
        return ConstantAnswer.of(task, examples, DEV)

    def beside(self, task: Task, dev: Mapping[str, Examples]) -> list[KnownRun]:
        """Return the runs of `beside_checkpoint`; none if the examples are not those of its run."""
        known = self.facts.sha256 if self.facts else {}
        if any(known.get(task.dev_splits[s]) != one.sha256 for s, one in dev.items()):
            return []
        seed = expanded(self.name)
        folders = (seed.absolute().parent.parent,)
        return beside_checkpoint(seed, task.primary_metric, folders=folders)

    def columns(self, config: EvaluateConfig) -> tuple[str, ...]:
        """Return the columns to read texts from: those asked for, else the task's.

        Raises:
            UsageError: Their number is not that of the task's columns.
        """
        own = self.task.columns
        columns = tuple(config.text_columns) or own
        if len(columns) != len(own):
            raise UsageError(
                f"{self.task.name} reads {' and '.join(own)}; give --text-column "
                f"{len(own)} times, not {len(columns)}"
            )
        return columns

    def load(self, config: EvaluateConfig) -> LoadedCheckpoint:
        """Load the checkpoint on its device, ready to predict."""
        compute = Compute.choose(config.device, config.precision, config.threads)
        notes: list[str] = []
        model = load_fine_tuned(self.task, self.name, note=notes.append)
        inputs = TextInputs.of(model, load_tokenizer(self.name), self.task.max_length)
        compute.place(model)
        return LoadedCheckpoint(self.task, model, inputs, compute, config.batch_size, notes)

    def pipeline(self) -> SentencePipeline:
        """Return its way of making sentence embeddings, else that of its base model."""
        own = SentencePipeline.of(self.name)
        base = self.facts.model if self.facts else None
        return own if own.is_own or base is None else SentencePipeline.of(base)


@dataclass(frozen=True)
class LoadedCheckpoint:
    """A checkpoint that is loaded and ready to predict.

    Attributes:
        task: The task that it is fine-tuned on.
        model: The model, on its device.
        inputs: Turns texts into its inputs.
        compute: Device and precision.
        batch_size: Examples in a batch.
        notes: Notes on its head.
        read: The inputs of all examples so far.
    """

    task: Task
    model: PreTrainedModel
    inputs: TextInputs
    compute: Compute
    batch_size: int
    notes: list[str]
    read: list[Features] = field(default_factory=list)

    def predict(self, examples: Examples) -> Predictions:
        """Return a prediction for each example."""
        encoded = kind_of(self.task).encode(self.inputs, examples)
        self.read.append(encoded.features)
        return predict(
            self.task,
            self.model,
            examples,
            encoded,
            batch_size=self.batch_size,
            autocast=self.compute.autocast,
        )

    @property
    def cut(self) -> int:
        """How many of the texts so far were too long and were cut."""
        return sum(features.cut for features in self.read)

    def all_notes(self) -> tuple[str, ...]:
        """Return notes on its head and on the texts so far."""
        advice = "fine-tune with --max-length {} to read more"
        return (*self.notes, *cut_notes(self.task, self.read, self.inputs.limits, advice))
