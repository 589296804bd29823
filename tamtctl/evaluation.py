"""Scores of models and tickets: of checkpoints on tasks, of encoders on held-out text."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812, the field's own name for it
from numpy.typing import NDArray
from torch import Tensor, nn
from transformers import PreTrainedModel

from tamtctl.batches import Batch, Blocks, Noise, evaluation_batches
from tamtctl.config import HEADS, OBJECTIVES, EvaluateConfig
from tamtctl.corpus import load_corpus
from tamtctl.devices import Autocast, Compute
from tamtctl.errors import ModelError, TamtctlError, TicketError, UsageError
from tamtctl.features import text_features
from tamtctl.masking import fold
from tamtctl.metrics import scores, standard_errors
from tamtctl.models import (
    Encoder,
    fingerprint,
    load_encoder,
    load_tokenizer,
    max_sequence_length,
)
from tamtctl.objectives import Objective
from tamtctl.task_data import Answers, Examples, TaskData, open_dev_file, open_task, read_texts
from tamtctl.task_models import (
    SEED_METRICS,
    Encoding,
    Predictions,
    class_names,
    load_fine_tuned,
    predict,
)
from tamtctl.tasks import PYTHON_DOCS_TOPIC, STSB_ZERO_SHOT, TASKS, Task, find_task
from tamtctl.text import PYTHON_DOCS
from tamtctl.ticket import Ticket, resolve_ticket
from tamtctl.ticket_format import METADATA_FILE

_SEQUENCE_LENGTH = 128  # of blocks of text where no ticket says what it was trained on
_BLOCKS = 512  # at most, spread over the text

# What an option may be for, besides single tasks.
_PUBLIC, _OWN, _PREDICT = "the tasks of GLUE and SQuAD", "tasks of your own", "--predict"


@dataclass(frozen=True)
class HeldOutLoss:
    """One term of an objective on held-out text.

    Attributes:
        sums: Loss summed over the targets of each block, shape (blocks,).
        counts: Number of targets in each block, shape (blocks,).
    """

    sums: NDArray[np.float64]
    counts: NDArray[np.int64]

    @property
    def mean(self) -> float:
        """Loss per target, in nats for ``mlm``."""
        return float(self.sums.sum() / self.counts.sum())

    @property
    def standard_error(self) -> float:
        """Standard error of the mean, blocks being the independent units (a ratio estimator)."""
        blocks = len(self.sums)
        if blocks < 2:
            return float("nan")
        residuals = self.sums - self.mean * self.counts
        return float(residuals.std(ddof=1) * np.sqrt(blocks) / self.counts.sum())


@torch.no_grad()
def held_out_losses(
    objective: Objective,
    batches: Iterable[Batch],
    forward_context: Autocast,
    device: torch.device,
) -> dict[str, HeldOutLoss]:
    """Return each term's loss of the model as it is now folded, without dropout."""
    sums: dict[str, list[NDArray[np.float64]]] = {}
    counts: dict[str, list[NDArray[np.int64]]] = {}
    for batch in batches:
        rows, length = batch.input_ids.shape
        block_of = {
            "mlm": batch.masked.numpy() // length,  # (n,)
            "kd": np.arange(rows * length) // length,  # (B * T,)
        }
        with forward_context():
            terms = objective.terms(batch.to(device))
        for term, losses in terms.items():
            values = losses.double().cpu().numpy()
            total = np.bincount(block_of[term], values, rows).astype(np.float64)
            sums.setdefault(term, []).append(total)
            counts.setdefault(term, []).append(np.bincount(block_of[term], minlength=rows))
    return {
        term: HeldOutLoss(np.concatenate(sums[term]), np.concatenate(counts[term])) for term in sums
    }


@dataclass(frozen=True)
class Evaluation:
    """What an evaluation found.

    Attributes:
        name: What was evaluated, as asked for.
        task: On what.
        metric: The primary metric; ``score`` and ``standard_error`` are its.
        score: Losses are per target (``mlm``: nats per masked token; ``kd``: 1 - cosine).
        standard_error: How far another held-out text or dev set of this size would move it.
        metrics: Every metric.
        standard_errors: Of every metric.
        examples: Examples, or blocks of text, that were scored.
        sparsity: Share of zeros in the masked matrices of a ticket; None if unknown.
        data: What was read.
        head: The masked-LM head, where there is one.
        dev_selected: The checkpoint was chosen by its score on the dev set, which is an oracle.
    """

    name: str
    task: str
    metric: str
    score: float
    standard_error: float
    metrics: dict[str, float]
    standard_errors: dict[str, float]
    examples: int
    sparsity: float | None
    data: str
    head: str | None = None
    dev_selected: bool = False

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return asdict(self)


@dataclass(frozen=True)
class Labelled:
    """One's own text with a checkpoint's predictions.

    Attributes:
        task: What the checkpoint was fine-tuned on.
        texts: One or two for each example.
        predictions: A class, a number or an answer for each.
        confidences: The probability of each class by name, the score of an answer, or None.
    """

    task: str
    texts: list[tuple[str, ...]]
    predictions: list[Any]
    confidences: list[Any]

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        rows = zip(self.texts, self.predictions, self.confidences, strict=True)
        return {
            "task": self.task,
            "predictions": [
                {"text": list(text), "prediction": prediction, "confidence": confidence}
                for text, prediction, confidence in rows
            ],
        }


def evaluate(config: EvaluateConfig) -> Evaluation:
    """Score a ticket, a model or a fine-tuned checkpoint.

    Raises:
        TamtctlError: The request, the model, the ticket or the data are refused.
    """
    fine_tuned = _FineTuned.find(config.name)
    ticket = None if fine_tuned else _find_ticket(config.name)
    task = config.task or (fine_tuned and fine_tuned.task.name)
    if task is None:
        task = ticket.objective if ticket and ticket.objective in OBJECTIVES else "mlm"
    if task in OBJECTIVES:
        return _evaluate_loss(config, task, ticket, fine_tuned)
    if task == STSB_ZERO_SHOT:
        return _evaluate_zero_shot(config, ticket, fine_tuned)
    return _evaluate_task(config, _FineTuned.choose(config, fine_tuned, ticket))


def label(config: EvaluateConfig, file: Path) -> Labelled:
    """Let a fine-tuned checkpoint label text of one's own.

    Args:
        config: Names the checkpoint, and the columns if they are not the task's.
        file: Lines of text, or a tsv, csv, jsonl or parquet file with these columns.

    Raises:
        TamtctlError: The checkpoint or the file are refused.
    """
    if config.task in (*OBJECTIVES, STSB_ZERO_SHOT):
        raise UsageError(
            f"--predict needs a task with labels, and {config.task} has none; give the --task that "
            f"{config.name} was fine-tuned on"
        )
    _check_options(config, _PREDICT)
    found = _FineTuned.find(config.name)
    ticket = None if found else _find_ticket(config.name)
    fine_tuned = _FineTuned.choose(config, found, ticket)
    task = fine_tuned.task
    texts = read_texts(file, fine_tuned.columns(config))
    nothing = [Answers((), ())] if task.kind == "span" else [0]
    examples = Examples(
        [str(i) for i in range(len(texts))],
        tuple(map(list, zip(*texts, strict=True))),
        nothing * len(texts),
    )
    said = fine_tuned.predict(config, examples)
    if task.kind != "classification":
        return Labelled(task.name, texts, said.values, said.confidences)
    return Labelled(
        task.name,
        texts,
        [task.labels[value] for value in said.values],
        [dict(zip(task.labels, row, strict=True)) for row in said.confidences],
    )


def _check_options(config: EvaluateConfig, kind: str) -> None:
    """Refuse the options that would be ignored, of those that decide what is scored."""
    table: dict[str, tuple[object, tuple[str, ...]]] = {
        "--model": (config.model, (*OBJECTIVES, STSB_ZERO_SHOT)),
        "--data-dir": (config.data_dir, (STSB_ZERO_SHOT, _PUBLIC)),
        "--dev": (config.dev, (_OWN,)),
        "--text-column": (config.text_columns, (*OBJECTIVES, _OWN, _PREDICT)),
        "--label-column": (config.label_column, (_OWN,)),
        "--corpus": (config.corpus, OBJECTIVES),
        "--head": (config.head, ("mlm", "mlm+kd")),
        "--sequence-length": (config.sequence_length, OBJECTIVES),
        "--blocks": (config.blocks, OBJECTIVES),
    }
    for option, (value, kinds) in table.items():
        if value and kind not in kinds:
            raise UsageError(
                f"{option} does not go with {kind}: it is for {', '.join(kinds)}; leave it out"
            )


def _check_model(config: EvaluateConfig, task: str, ticket: Ticket | None) -> None:
    """Refuse a model beside what is one itself, unless they are compared."""
    if config.model and ticket is None and "kd" not in task:
        raise UsageError(f"--model is for a ticket and for kd, and {config.name} is no ticket")


def _find_ticket(name: str) -> Ticket | None:
    """Return the ticket of a name, or None if a model may be called that."""
    try:
        path = resolve_ticket(name).path
    except TamtctlError:
        if Path(name).expanduser().is_dir():  # the run of a search, whose ticket the error names
            raise
        return None
    if not (path / METADATA_FILE).exists() and (path / "config.json").exists():
        return None
    return Ticket.load(path)


# --- fine-tuned checkpoints ------------------------------------------------------------------


@dataclass(frozen=True)
class _FineTuned:
    """A checkpoint with the head of a task, and what its run wrote down (empty without one)."""

    name: str
    task: Task
    facts: Mapping[str, Any]

    @classmethod
    def find(cls, name: str) -> _FineTuned | None:
        """Return the checkpoint of a fine-tuning run, or None if ``name`` is none.

        Raises:
            ModelError: It is the run itself, or damaged.
        """
        folder = Path(name).expanduser()
        if seeds := sorted(folder.glob(f"seed-*/{SEED_METRICS}")):
            checkpoints = ", ".join(str(file.parent) for file in seeds)
            raise ModelError(f"{name!r} is a run; its checkpoints are {checkpoints}")
        file = folder / SEED_METRICS
        try:
            facts = json.loads(file.read_text(encoding="utf-8"))
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
        cls, config: EvaluateConfig, found: _FineTuned | None, ticket: Ticket | None
    ) -> _FineTuned:
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
        """What `_check_options` knows it as; python-docs-topic, which has no files, as itself."""
        if self.task.name == PYTHON_DOCS_TOPIC:
            return PYTHON_DOCS_TOPIC
        return _PUBLIC if self.task.name in TASKS else _OWN

    @property
    def sparsity(self) -> float | None:
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
        return open_dev_file(task, Path(config.dev or used.get("dev", "")))

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


def _evaluate_task(config: EvaluateConfig, fine_tuned: _FineTuned) -> Evaluation:
    _check_options(config, fine_tuned.kind)
    data = fine_tuned.data(config)
    found: dict[str, float] = {}
    errors: dict[str, float] = {}
    count = 0
    for suffix, examples in data.dev().items():
        said = fine_tuned.predict(config, examples).values
        count += len(examples)
        found |= {n + suffix: v for n, v in scores(data.task, said, examples).items()}
        errors |= {n + suffix: v for n, v in standard_errors(data.task, said, examples).items()}
    metric = data.task.primary_metric
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
        dev_selected=bool(fine_tuned.facts.get("dev_selected")),
    )


# --- pre-training losses ---------------------------------------------------------------------


def _evaluate_loss(
    config: EvaluateConfig, task: str, ticket: Ticket | None, fine_tuned: _FineTuned | None
) -> Evaluation:
    """Score on held-out text, with noise that depends on nothing but the text."""
    _check_options(config, task)
    _check_model(config, task, ticket)
    pruned = ticket or fine_tuned
    dense = None if ticket else _dense_model(config, task, fine_tuned)
    compute = Compute.choose(config.device, config.precision, config.threads)
    encoder = _load_for(config, ticket, with_head="mlm" in task)
    longest = max_sequence_length(encoder.model)
    length = config.sequence_length or min(_sequence_length(ticket), longest)
    if length > longest:
        raise UsageError(
            f"--sequence-length {length} is more than the model can take; give at most {longest}"
        )
    column = config.text_columns[0] if config.text_columns else None
    sources = config.corpus or (PYTHON_DOCS,)
    corpus = load_corpus(sources, encoder.tokenizer, text_column=column)
    blocks = Blocks.of(corpus.held_out, length, encoder.tokenizer)
    teacher = _teacher(dense, encoder, compute.device) if dense else None
    cast(nn.Module, encoder.model).to(compute.device)
    frozen = {name: p.detach().clone() for name, p in encoder.matrices.items()}
    objective = Objective(encoder, task, frozen, teacher)
    if ticket:
        masks = _masks(ticket, encoder)
        fold(encoder.matrices, frozen, {n: masks[n].to(compute.device) for n in frozen})
    _set_head(config, ticket, objective)
    noise = Noise.of(encoder.tokenizer) if "mlm" in task else None
    limit = config.blocks or _BLOCKS
    batches = evaluation_batches(blocks, config.batch_size, noise=noise, limit=limit)
    terms = held_out_losses(objective, batches, compute.autocast, compute.device)
    means = {name: term.mean for name, term in terms.items()}
    errors = {name: term.standard_error for name, term in terms.items()}
    if len(terms) > 1:
        means[task], errors[task] = math.fsum(means.values()), math.hypot(*errors.values())
    return Evaluation(
        name=config.name,
        task=task,
        metric=task,
        score=means[task],
        standard_error=errors[task],
        metrics=means,
        standard_errors=errors,
        examples=min(limit, len(blocks)),
        sparsity=pruned.sparsity if pruned else None,
        data=" ".join(sources),
        head=(config.head or HEADS[0]) if "mlm" in task else None,
    )


def _dense_model(config: EvaluateConfig, task: str, fine_tuned: _FineTuned | None) -> str | None:
    """Return the dense model that an encoder is compared with, None if the task needs none."""
    if "kd" not in task:
        return None
    used = fine_tuned.facts.get("model", {}).get("id") if fine_tuned else None
    if not (config.model or used):
        raise UsageError(
            f"kd measures how far an encoder is from the dense model it was made of, and "
            f"{config.name} does not say which that is; give it with --model"
        )
    return config.model or used


def _teacher(dense: str, encoder: Encoder, device: torch.device) -> dict[str, Tensor]:
    """Return the weights of a dense model as ones that the encoder can run on."""
    teacher = load_encoder(dense, with_head=False)
    weights = {name: p.detach().to(device) for name, p in teacher.base.named_parameters()}
    own = dict(encoder.base.named_parameters())
    for name, parameter in own.items():
        if name not in weights or weights[name].shape != parameter.shape:
            raise ModelError(
                f"{encoder.id} is not made of model {dense!r}, whose {name} is "
                f"{'missing' if name not in weights else list(weights[name].shape)}; "
                "give the right --model"
            )
    return {name: weights[name] for name in own}


def _sequence_length(ticket: Ticket | None) -> int:
    return (
        int(ticket.search.get("sequence_length", _SEQUENCE_LENGTH)) if ticket else _SEQUENCE_LENGTH
    )


def _load_for(config: EvaluateConfig, ticket: Ticket | None, *, with_head: bool) -> Encoder:
    if ticket is None:
        return load_encoder(config.name, with_head=with_head)
    if config.model:
        return load_encoder(config.model, with_head=with_head)
    base = ticket.base_model
    return load_encoder(base.id, with_head=with_head, revision=base.revision)


def _masks(ticket: Ticket, encoder: Encoder) -> Mapping[str, Tensor]:
    """Return a ticket's masks after checking that the encoder is the one they were found for."""
    if fingerprint(encoder.weights)[0] != ticket.base_model.fingerprint:
        raise TicketError(
            f"the ticket is for {ticket.base_model.id!r}, whose weights are not those of model "
            f"{encoder.id!r}; give the ticket's own --model"
        )
    return ticket.decode(encoder.weights).masks


def _set_head(config: EvaluateConfig, ticket: Ticket | None, objective: Objective) -> None:
    """Give the objective the head that was trained with the ticket, if that is asked for."""
    if config.head != "ticket" or not objective.head:
        return
    if ticket is None or ticket.mlm_head is None:
        what = "has no masked-LM head of its own" if ticket else "is no ticket"
        raise UsageError(f"--head ticket: {config.name} {what}; use --head pretrained")
    if ticket.mlm_head.keys() != objective.head.keys():
        raise TicketError(f"the head of {config.name} is not one of its model; search it again")
    with torch.no_grad():
        for name, parameter in objective.head.items():
            parameter.copy_(ticket.mlm_head[name])


# --- sentence embeddings ---------------------------------------------------------------------


def _evaluate_zero_shot(
    config: EvaluateConfig, ticket: Ticket | None, fine_tuned: _FineTuned | None
) -> Evaluation:
    """Correlate STS-B's labels with the cosine of mean-pooled embeddings; nothing is trained."""
    _check_options(config, STSB_ZERO_SHOT)
    _check_model(config, STSB_ZERO_SHOT, ticket)
    pruned = ticket or fine_tuned
    compute = Compute.choose(config.device, config.precision, config.threads)
    data = open_task(TASKS["stsb"], Path(config.data_dir) if config.data_dir else None)
    (examples,) = data.dev().values()
    encoder = _load_for(config, ticket, with_head=False)
    if ticket:
        masks = _masks(ticket, encoder)
        fold(encoder.matrices, {n: p.detach().clone() for n, p in encoder.matrices.items()}, masks)
    cast(nn.Module, encoder.model).to(compute.device)
    encoding = Encoding.of(data.task, encoder.model, encoder.tokenizer)
    first, second = (
        _embeddings(encoding, encoder.model, texts, config.batch_size, compute)
        for texts in examples.texts
    )
    cosines = F.cosine_similarity(first, second)  # (n,)
    found = scores(data.task, cosines.tolist(), examples)
    errors = standard_errors(data.task, cosines.tolist(), examples)
    metric = data.task.primary_metric
    return Evaluation(
        name=config.name,
        task=STSB_ZERO_SHOT,
        metric=metric,
        score=found[metric],
        standard_error=errors[metric],
        metrics=found,
        standard_errors=errors,
        examples=len(examples),
        sparsity=pruned.sparsity if pruned else None,
        data=data.name,
    )


@torch.no_grad()
def _embeddings(
    encoding: Encoding,
    model: PreTrainedModel,
    texts: list[str],
    batch_size: int,
    compute: Compute,
) -> Tensor:
    """Return the mean of each text's last hidden states, padding left out, shape (n, H)."""
    features = text_features(
        [texts],
        torch.zeros(len(texts)),
        encoding.tokenizer,
        max_length=encoding.max_length,
        takes_types=encoding.takes_types,
    )
    embeddings: Tensor | None = None
    for batch in features.evaluation_batches(batch_size):
        inputs = batch.to(compute.device).inputs
        with compute.autocast():
            states = model(**inputs, return_dict=True).last_hidden_state.float()  # (B, T, H)
        attended = inputs["attention_mask"].unsqueeze(2)  # (B, T, 1)
        means = ((states * attended).sum(1) / attended.sum(1)).cpu()
        if embeddings is None:
            embeddings = torch.empty(len(texts), means.shape[1])
        embeddings[batch.rows] = means
    assert embeddings is not None
    return embeddings
