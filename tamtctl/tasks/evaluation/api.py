"""The functions `evaluate`, which scores tickets and models, and `label`, which predicts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Never

from tamtctl.foundations.errors import HubError, NoTicketError, UsageError
from tamtctl.foundations.paths import expanded
from tamtctl.foundations.watching import Silent, Watcher, default_watcher
from tamtctl.foundations.working import watched
from tamtctl.models.files import CONFIG_FILE, MODULES
from tamtctl.pruning.objectives import objectives
from tamtctl.tasks.benchmarks.table import all_without_training, zero_shot_tasks
from tamtctl.tasks.evaluation.checkpoint import FineTuned
from tamtctl.tasks.evaluation.config import EvaluateConfig
from tamtctl.tasks.evaluation.losses import evaluate_loss
from tamtctl.tasks.evaluation.options import PREDICT, check_options
from tamtctl.tasks.evaluation.result import OWN_FIELDS, Evaluation, Labelled
from tamtctl.tasks.evaluation.zero_shot import evaluate_zero_shot
from tamtctl.tasks.examples import Examples
from tamtctl.tasks.finetuning.learnt_nothing import Finding, no_better, plainest
from tamtctl.tasks.kinds.code import kind_of
from tamtctl.tasks.kinds.metrics import metrics, standard_errors
from tamtctl.tasks.kinds.table import primary_metric
from tamtctl.tasks.labelled.files import reading_notes
from tamtctl.tasks.labelled.json_records import json_records
from tamtctl.tasks.labelled.notes import few_note
from tamtctl.tasks.labelled.texts import read_texts
from tamtctl.tasks.measures import MEASURES
from tamtctl.tasks.task import Task
from tamtctl.ticket.finding import resolve_ticket
from tamtctl.ticket.format.metadata import METADATA_FILE
from tamtctl.ticket.ticket import Ticket

_DEFAULT = "mlm"  # what is measured if neither the user nor the ticket decides
_ADVICE = "fine-tune again with --find-learning-rate, more --epochs or more examples"


@watched(default_watcher)
def evaluate(config: EvaluateConfig, *, watcher: Watcher[Never] | None = None) -> Evaluation:
    """Score a ticket, a model or a fine-tuned checkpoint.

    Args:
        config: What to measure, and on what.
        watcher: Is told how it goes; by default, a notebook shows it and a script shows nothing.

    Raises:
        TamtctlError: The request, the model, the ticket or the data is refused.

    Example:
        >>> found = tamtctl.evaluate(asked)
        >>> found.metric, found.unit
        ('mlm', 'nats per masked token')
    """
    watcher = watcher or Silent()
    watcher.status(f"evaluating {config.name}")
    fine_tuned = FineTuned.find(config.name)
    ticket = None if fine_tuned else _find_ticket(config.name)
    task = config.task or (fine_tuned.task.name if fine_tuned else None)
    if task is None:
        task = ticket.objective if ticket and ticket.objective in objectives() else _DEFAULT
    if task in objectives():
        return evaluate_loss(config, task, ticket, fine_tuned)
    if task in zero_shot_tasks():
        return evaluate_zero_shot(config, task, ticket, fine_tuned)
    if task in MEASURES:
        row = MEASURES[task]
        found: Evaluation = row.function("measure")(config, row, ticket, fine_tuned)
        return found
    return _evaluate_task(config, FineTuned.choose(config, fine_tuned, ticket))


@watched(default_watcher)
def label(
    config: EvaluateConfig, file: Path | str, *, watcher: Watcher[Never] | None = None
) -> Labelled:
    """Label a user's own text with a fine-tuned checkpoint.

    Args:
        config: Names the checkpoint, and the columns if they are not the task's.
        file: Lines of text, or a tsv, csv, jsonl or parquet file with these columns.
        watcher: Is told how it goes; by default, a notebook shows it and a script shows nothing.

    Raises:
        TamtctlError: The checkpoint or the file is refused.

    Example:
        >>> checkpoint = tamtctl.EvaluateConfig(name=tuned.checkpoint[0])
        >>> labelled = tamtctl.label(checkpoint, "my-text.txt")
        >>> labelled.predictions[0] in ("file", "list")
        True
    """
    file = expanded(file)
    watcher = watcher or Silent()
    watcher.status(f"labelling {file}")
    if config.task in all_without_training():
        raise UsageError(
            f"--predict needs a task with labels, and {config.task} has none; give the --task that "
            f"{config.name} was fine-tuned on"
        )
    check_options(config, PREDICT)
    found = FineTuned.find(config.name)
    ticket = None if found else _find_ticket(config.name)
    fine_tuned = FineTuned.choose(config, found, ticket)
    task = fine_tuned.task
    texts = read_texts(file, fine_tuned.columns(config), task)
    kind = kind_of(task)
    examples = Examples(
        [str(i) for i in range(len(texts))],
        tuple(map(list, zip(*texts, strict=True))),
        [kind.no_label] * len(texts),
    )
    checkpoint = fine_tuned.load(config)
    said = checkpoint.predict(examples)
    records = json_records(task, file, len(texts))
    return Labelled(
        task.name,
        texts,
        list(map(kind.prediction_to_json, said.values)),
        list(map(kind.confidence_to_json, said.confidences)),
        cut=checkpoint.cut,
        notes=(*_text_notes(task, file), *_replaced(records), *checkpoint.all_notes()),
        records=records,
    )


def _text_notes(task: Task, file: Path) -> list[str]:
    return reading_notes(task, file) if file.is_file() else []  # a pipe can be read only once


def _replaced(records: Sequence[Mapping[str, Any]] | None) -> list[str]:
    """Return a note if lines have fields of the names that predictions are written under."""
    found = [name for name in OWN_FIELDS if any(name in one for one in records or ())]
    return [f"the lines' own {' and '.join(found)} are replaced"] if found else []


def _find_ticket(name: str) -> Ticket | None:
    """Return the ticket of a name, or None if the name may be that of a model."""
    try:
        path = resolve_ticket(name).path
    except (NoTicketError, HubError):  # loading it as a model names the problem
        return None
    is_model = (path / CONFIG_FILE).exists() or (path / MODULES).exists()
    if not (path / METADATA_FILE).exists() and is_model:
        return None
    return Ticket.load(path)


def _evaluate_task(config: EvaluateConfig, fine_tuned: FineTuned) -> Evaluation:
    check_options(config, fine_tuned.kind)
    data = fine_tuned.data(config)
    dev = data.dev()
    checkpoint = fine_tuned.load(config)
    notes = list(data.notes)
    found: dict[str, float] = {}
    errors: dict[str, float | None] = {}
    count = 0
    answer = fine_tuned.constant_answer(data.task, next(iter(dev.values())))
    constant = answer.metrics(data.task, dev)
    metric, kind = data.task.primary_metric, kind_of(data.task)
    findings: list[Finding | None] = []
    for suffix, examples in dev.items():
        if change := fine_tuned.change_of(data.task.dev_splits[suffix], examples, config):
            notes.append(change)
        said = checkpoint.predict(examples).values
        notes += kind.label_notes(examples, f"dev{suffix}")
        notes += few_note(data.task, examples, f"dev{suffix}")
        count += len(examples)
        found |= {n + suffix: v for n, v in metrics(data.task, said, examples).items()}
        errors |= {n + suffix: v for n, v in standard_errors(data.task, said, examples).items()}
        if metric in found and not findings:
            no_gain = no_better(
                primary_metric(data.task),
                metric,
                found[metric],
                errors[metric],
                answer,
                constant[metric],
            )
            findings.append(plainest(data.task, said, examples, no_gain, errors[metric]))
    notes += [f"the checkpoint {finding}; {_ADVICE}" for finding in findings if finding]
    return Evaluation(
        name=config.name,
        task=data.task.name,
        metric=metric,
        score=found[metric],
        standard_error=errors[metric],
        metrics=found,
        standard_errors=errors,
        examples=count,
        sparsity=fine_tuned.sparsity,
        data=data.name,
        dev_selected=bool(fine_tuned.facts and fine_tuned.facts.dev_selected),
        cut=checkpoint.cut,
        notes=(*notes, *checkpoint.all_notes()),
        constant_answer=answer.value,
        constant_split=answer.split,
        constant_scores=constant,
        beside=fine_tuned.beside(data.task, dev),
    )
