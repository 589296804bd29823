"""Scores of models and tickets: of checkpoints on tasks, of encoders on held-out text."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Never, cast

import torch
import torch.nn.functional as F  # noqa: N812, the field's own name for it
from torch import Tensor, nn

from tamtctl.data.batches import Blocks, Noise, evaluation_batches
from tamtctl.data.corpus import load_corpus
from tamtctl.data.text.documents import PYTHON_DOCS
from tamtctl.foundations.devices import Compute
from tamtctl.foundations.errors import HubError, ModelError, NoHeadError, NoTicketError, UsageError
from tamtctl.foundations.loss_units import ScoredText
from tamtctl.foundations.paths import expanded
from tamtctl.foundations.shown import Shown
from tamtctl.foundations.watching import Silent, Watcher, default_watcher
from tamtctl.foundations.working import watched
from tamtctl.models.encoder import Encoder, max_sequence_length
from tamtctl.models.files import MODULES
from tamtctl.models.loading import load_encoder
from tamtctl.models.sentence_embeddings import SentencePipeline
from tamtctl.models.text_inputs import TextInputs
from tamtctl.pruning.objectives import TERMS, Term, Terms, headless, objectives, terms_of
from tamtctl.pruning.objectives.held_out_loss import check_targets, held_out_losses, total_error
from tamtctl.pruning.objectives.objective import Objective
from tamtctl.pruning.trained.folded_weights import fold
from tamtctl.tasks.benchmarks.table import zero_shot_tasks
from tamtctl.tasks.constant_answer import DEV, ConstantAnswer
from tamtctl.tasks.evaluation.checkpoint import OWN, PUBLIC, FineTuned
from tamtctl.tasks.evaluation.config import HEADS, EvaluateConfig
from tamtctl.tasks.examples import Examples
from tamtctl.tasks.finetuning.known_runs import KnownRun
from tamtctl.tasks.finetuning.untrained import Finding, no_better, same_answer
from tamtctl.tasks.kinds.base import kind_of
from tamtctl.tasks.kinds.metrics import metrics, standard_errors
from tamtctl.tasks.kinds.table import primary_metric
from tamtctl.tasks.labelled.files import reading_notes
from tamtctl.tasks.labelled.notes import few_note
from tamtctl.tasks.labelled.opening import open_task
from tamtctl.tasks.labelled.texts import read_texts
from tamtctl.ticket.format.metadata import METADATA_FILE
from tamtctl.ticket.heads import fitting_head, head_parameters, put_head
from tamtctl.ticket.shelf import resolve_ticket
from tamtctl.ticket.texts import sequence_length_of
from tamtctl.ticket.ticket import Ticket
from tamtctl.ticket.trained_on import TrainedOn

_SEQUENCE_LENGTH = 128  # of blocks of text where no ticket says what it was trained on
_BLOCKS = 512  # at most, spread over the text
_DEFAULT = "mlm"  # what is measured where neither the user nor a ticket says
_ADVICE = "fine-tune again with --find-learning-rate, more --epochs or more examples"
_PREDICT = "--predict"  # what an option may be for, besides tasks


@dataclass(frozen=True, repr=False)
class Evaluation(Shown):
    """What an evaluation found.

    Attributes:
        name: What was evaluated, as asked for.
        task: On what.
        metric: Name of the primary metric, which ``score`` and ``standard_error`` are of.
        score: Losses are means per target, in ``unit``.
        standard_error: How far another held-out text or dev set of this size would move it; None
            where there are too few sequences or examples to tell.
        metrics: Every metric.
        standard_errors: Metric → its standard error.
        examples: Examples, or blocks of text, that were scored.
        sparsity: Share of zeros in the masked matrices of a ticket; None if unknown.
        data: What was read.
        head: The masked-LM head, where there is one.
        dev_selected: The checkpoint was chosen by its score on the dev set, which is an oracle.
        unit: The unit of a loss; None for metrics.
        units: Metric that is a loss → its unit.
        text: What a loss was taken on; None for scores.
        embeddings: How sentence embeddings were made (``stsb-zero-shot``).
        cut: Examples of which a text was too long and was cut.
        notes: What a person should know before the score is believed, a line each.
        constant_answer: The most frequent class or answer, or the mean label; None of a loss.
        constant_split: The examples it was taken from, ``training`` or (if those are not known)
            ``dev``.
        constant_scores: What that answer scores if it is given to every example.
        beside: The dense model, or tickets, fine-tuned in the very same way under ``runs/``, as far
            as they are scored on these examples.
    """

    name: str
    task: str
    metric: str
    score: float
    standard_error: float | None
    metrics: dict[str, float]
    standard_errors: Mapping[str, float | None]
    examples: int
    sparsity: float | None
    data: str
    head: str | None = None
    dev_selected: bool = False
    unit: str | None = None
    units: dict[str, str] = field(default_factory=dict)
    text: ScoredText | None = None
    embeddings: str | None = None
    cut: int = 0
    notes: tuple[str, ...] = ()
    constant_answer: str | float | None = None
    constant_split: str | None = None
    constant_scores: Mapping[str, float] = field(default_factory=dict)
    beside: Sequence[KnownRun] = ()

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        values = asdict(self)
        del values["text"]
        if self.text is None:
            return values
        return values | {
            "text": self.text.name,
            "sequences": self.text.sequences,
            "sequences_there": self.text.of,
            "sequence_length": self.text.sequence_length,
        }


@dataclass(frozen=True, repr=False)
class Labelled(Shown):
    """One's own text with a checkpoint's predictions.

    Attributes:
        task: What the checkpoint was fine-tuned on.
        texts: One or two for each example.
        predictions: A class, a number or an answer for each.
        confidences: The probability of each class by name, the score of an answer, or None.
        cut: How many of the examples were too long and were cut.
        notes: What a person should know of the predictions, a line each.
    """

    task: str
    texts: list[tuple[str, ...]]
    predictions: list[Any]
    confidences: list[Any]
    cut: int = 0
    notes: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        rows = zip(self.texts, self.predictions, self.confidences, strict=True)
        return {
            "task": self.task,
            "predictions": [
                {"text": list(text), "prediction": prediction, "confidence": confidence}
                for text, prediction, confidence in rows
            ],
            "cut": self.cut,
            "notes": list(self.notes),
        }


@watched(default_watcher)
def evaluate(config: EvaluateConfig, *, watcher: Watcher[Never] | None = None) -> Evaluation:
    """Score a ticket, a model or a fine-tuned checkpoint.

    Args:
        config: What to score on what.
        watcher: Is told how it goes; by default the reader of a notebook is.

    Raises:
        TamtctlError: The request, the model, the ticket or the data are refused.
    """
    watcher = watcher or Silent()
    watcher.status(f"evaluating {config.name}")
    fine_tuned = FineTuned.find(config.name)
    ticket = None if fine_tuned else _find_ticket(config.name)
    task = config.task or (fine_tuned and fine_tuned.task.name)
    if task is None:
        task = ticket.objective if ticket and ticket.objective in objectives() else _DEFAULT
    if task in objectives():
        return _evaluate_loss(config, task, ticket, fine_tuned)
    if task in zero_shot_tasks():
        return _evaluate_zero_shot(config, task, ticket, fine_tuned)
    return _evaluate_task(config, FineTuned.choose(config, fine_tuned, ticket))


@watched(default_watcher)
def label(
    config: EvaluateConfig, file: Path | str, *, watcher: Watcher[Never] | None = None
) -> Labelled:
    """Let a fine-tuned checkpoint label text of one's own.

    Args:
        config: Names the checkpoint, and the columns if they are not the task's.
        file: Lines of text, or a tsv, csv, jsonl or parquet file with these columns.
        watcher: Is told how it goes; by default the reader of a notebook is.

    Raises:
        TamtctlError: The checkpoint or the file are refused.
    """
    file = expanded(file)
    watcher = watcher or Silent()
    watcher.status(f"labelling {file}")
    if config.task in (*objectives(), *zero_shot_tasks()):
        raise UsageError(
            f"--predict needs a task with labels, and {config.task} has none; give the --task that "
            f"{config.name} was fine-tuned on"
        )
    _check_options(config, _PREDICT)
    found = FineTuned.find(config.name)
    ticket = None if found else _find_ticket(config.name)
    fine_tuned = FineTuned.choose(config, found, ticket)
    task = fine_tuned.task
    texts = read_texts(file, fine_tuned.columns(config))
    kind = kind_of(task)
    examples = Examples(
        [str(i) for i in range(len(texts))],
        tuple(map(list, zip(*texts, strict=True))),
        [kind.no_label] * len(texts),
    )
    checkpoint = fine_tuned.load(config)
    said = checkpoint.predict(examples)
    return Labelled(
        task.name,
        texts,
        list(map(kind.prediction_to_json, said.values)),
        list(map(kind.confidence_to_json, said.confidences)),
        cut=checkpoint.cut,
        notes=(*_text_notes(file), *checkpoint.all_notes()),
    )


def _text_notes(file: Path) -> list[str]:
    return reading_notes(file) if file.is_file() else []  # a pipe is read once


def _check_options(config: EvaluateConfig, kind: str) -> None:
    """Refuse the options that would be ignored, of those that decide what is scored."""
    losses, zero_shot = objectives(), tuple(zero_shot_tasks())
    table: dict[str, tuple[object, tuple[str, ...]]] = {
        "--model": (config.model, (*losses, *zero_shot)),
        "--data-dir": (config.data_dir, (*zero_shot, PUBLIC)),
        "--dev": (config.dev, (OWN,)),
        "--text-column": (config.text_columns, (*losses, OWN, _PREDICT)),
        "--label-column": (config.label_column, (OWN,)),
        "--corpus": (config.corpus, losses),
        "--held-out-tenth": (config.held_out_tenth, losses),
        "--head": (config.head, tuple(loss for loss in losses if terms_of(loss).need_head)),
        "--sequence-length": (config.sequence_length, losses),
        "--blocks": (config.blocks, losses),
    }
    for option, (value, kinds) in table.items():
        if value and kind not in kinds:
            raise UsageError(
                f"{option} does not go with {kind}: it is for {', '.join(kinds)}; leave it out"
            )


def _check_model(config: EvaluateConfig, task: str, ticket: Ticket | None) -> None:
    """Refuse a model beside what is one itself, unless they are compared."""
    if not config.model or ticket or (task in objectives() and terms_of(task).need_teacher):
        return
    taught = _needing("teacher", TERMS.values())
    raise UsageError(f"--model is for a ticket and for {taught}, and {config.name} is no ticket")


def _find_ticket(name: str) -> Ticket | None:
    """Return the ticket of a name, or None if a model may be called that."""
    try:
        path = resolve_ticket(name).path
    except (NoTicketError, HubError):  # what is wrong with a model of that name, loading it says
        return None
    is_model = (path / "config.json").exists() or (path / MODULES).exists()
    if not (path / METADATA_FILE).exists() and is_model:
        return None
    return Ticket.load(path)


def _evaluate_task(config: EvaluateConfig, fine_tuned: FineTuned) -> Evaluation:
    _check_options(config, fine_tuned.kind)
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
        notes += few_note(examples, f"dev{suffix}")
        count += len(examples)
        found |= {n + suffix: v for n, v in metrics(data.task, said, examples).items()}
        errors |= {n + suffix: v for n, v in standard_errors(data.task, said, examples).items()}
        if metric in found and not findings:
            findings.append(
                same_answer(data.task, said, examples)
                or no_better(
                    primary_metric(data.task),
                    metric,
                    found[metric],
                    errors[metric],
                    answer,
                    constant[metric],
                )
            )
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


# --- pre-training losses ---------------------------------------------------------------------


def _evaluate_loss(
    config: EvaluateConfig, task: str, ticket: Ticket | None, fine_tuned: FineTuned | None
) -> Evaluation:
    """Score on held-out text, with noise that depends on nothing but the text."""
    _check_options(config, task)
    _check_model(config, task, ticket)
    pruned = ticket or fine_tuned
    terms = terms_of(task)
    dense = None if ticket else _dense_model(config, terms, fine_tuned)
    compute = Compute.choose(config.device, config.precision, config.threads)
    encoder = _load_for(config, ticket, terms)
    head = _trained_head(config, ticket, encoder) if terms.need_head else None
    longest = max_sequence_length(encoder.model)
    length = config.sequence_length or min(_sequence_length(ticket), longest)
    if length > longest:
        raise UsageError(
            f"--sequence-length {length} is more than the model can take; give at most {longest}"
        )
    column = config.text_columns[0] if config.text_columns else None
    sources = config.corpus or (PYTHON_DOCS,)
    trained_on = TrainedOn(ticket, config.held_out_tenth)
    corpus = load_corpus(sources, encoder.tokenizer, whole=trained_on.choose, text_column=column)
    blocks = Blocks.of(
        corpus.held_out, length, encoder.tokenizer, name=f"the text of {corpus.held_out_name}"
    )
    noise = Noise.of(encoder.tokenizer) if terms.need_noise else None
    limit = config.blocks or _BLOCKS
    check_targets(blocks, noise=noise, limit=limit, text=corpus.name)
    name = "; ".join(filter(None, (corpus.held_out_name, trained_on.remark)))
    text = ScoredText(name, min(limit, len(blocks)), len(blocks), length)
    teacher = _teacher(dense, encoder, compute.device) if dense else None
    cast(nn.Module, encoder.model).to(compute.device)
    frozen = {name: p.detach().clone() for name, p in encoder.matrices.items()}
    objective = Objective(encoder, task, frozen, teacher)
    if ticket:
        masks = _masks(ticket, encoder)
        fold(encoder.matrices, frozen, {n: masks[n].to(compute.device) for n in frozen})
    if head is not None:
        put_head(head, objective.head, encoder.model)
    batches = evaluation_batches(blocks, config.batch_size, noise=noise, limit=limit)
    losses = held_out_losses(objective, batches, compute.autocast, compute.device)
    means = {name: loss.mean for name, loss in losses.items()}
    errors = {name: loss.standard_error for name, loss in losses.items()}
    if len(losses) > 1:
        means[task], errors[task] = math.fsum(means.values()), total_error(losses.values())
    return Evaluation(
        name=config.name,
        task=task,
        metric=task,
        score=means[task],
        standard_error=errors[task],
        metrics=means,
        standard_errors=errors,
        examples=text.sequences,
        sparsity=pruned.sparsity if pruned else None,
        data=" ".join(sources),
        head=(config.head or HEADS[0]) if terms.need_head else None,
        unit=terms.unit,
        units={name: terms_of(name).unit for name in means},
        text=text,
        notes=(*corpus.notes, *([text.too_few] if text.too_few else [])),
    )


def _dense_model(config: EvaluateConfig, terms: Terms, fine_tuned: FineTuned | None) -> str | None:
    """Return the dense model that an encoder is compared with, None if the task needs none."""
    if not terms.need_teacher:
        return None
    used = fine_tuned.facts.model if fine_tuned and fine_tuned.facts else None
    if not (config.model or used):
        raise UsageError(
            f"{_needing('teacher', terms)} measures how far an encoder is from the dense model "
            f"it was made of, and "
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
    return (sequence_length_of(ticket) if ticket else None) or _SEQUENCE_LENGTH


def _needing(what: str, terms: Iterable[Term]) -> str:
    """Return which terms need something, for a message."""
    return " and ".join(term.name for term in terms if getattr(term, f"needs_{what}"))


def _load_for(config: EvaluateConfig, ticket: Ticket | None, terms: Terms | None = None) -> Encoder:
    name, revision = _id(config, ticket)
    terms = terms or Terms()
    try:
        return load_encoder(name, with_head=terms.need_head, revision=revision)
    except NoHeadError as error:
        other = headless()
        model = " --model DENSE" if other.needs_teacher and not ticket else ""
        raise ModelError(
            f"model {name!r} has no pre-trained masked-LM head, which {_needing('head', terms)} "
            f"takes; --task {other.name}{model} needs none, and "
            f"--task {next(iter(zero_shot_tasks()))} scores its sentence embeddings"
        ) from error


def _id(config: EvaluateConfig, ticket: Ticket | None) -> tuple[str, str | None]:
    """Return name and revision of the encoder to load."""
    if ticket is None or config.model:
        return config.model if ticket and config.model else config.name, None
    return ticket.find_base()


def _masks(ticket: Ticket, encoder: Encoder) -> Mapping[str, Tensor]:
    """Return a ticket's masks after checking that the encoder is the one they were found for."""
    return ticket.full_masks(
        encoder.weights, model=encoder.id, remedy="give the ticket's own --model"
    )


def _trained_head(
    config: EvaluateConfig, ticket: Ticket | None, encoder: Encoder
) -> Mapping[str, Tensor] | None:
    """Return the head that was trained with the ticket, if that is asked for."""
    if config.head != "ticket":
        return None
    if ticket is None or ticket.mlm_head is None:
        what = "has no masked-LM head of its own" if ticket else "is no ticket"
        raise UsageError(f"--head ticket: {config.name} {what}; use --head pretrained")
    return fitting_head(ticket.mlm_head, head_parameters(encoder.model), encoder.model)


# --- sentence embeddings ---------------------------------------------------------------------


def _evaluate_zero_shot(
    config: EvaluateConfig, name: str, ticket: Ticket | None, fine_tuned: FineTuned | None
) -> Evaluation:
    """Correlate a benchmark's labels with the cosine of sentence embeddings, without training."""
    _check_options(config, name)
    _check_model(config, name, ticket)
    pruned = ticket or fine_tuned
    compute = Compute.choose(config.device, config.precision, config.threads)
    task = zero_shot_tasks()[name]
    data = open_task(task, Path(config.data_dir) if config.data_dir else None)
    (examples,) = data.dev().values()
    encoder = _load_for(config, ticket)
    if ticket:
        masks = _masks(ticket, encoder)
        fold(encoder.matrices, {n: p.detach().clone() for n, p in encoder.matrices.items()}, masks)
    cast(nn.Module, encoder.model).to(compute.device)
    pipeline = fine_tuned.pipeline() if fine_tuned else SentencePipeline.of(*_id(config, ticket))
    inputs = TextInputs.of(encoder.model, encoder.tokenizer, data.task.max_length)
    (first, cut), (second, cut_too) = (
        pipeline.embed(inputs, encoder.model, texts, config.batch_size, compute)
        for texts in examples.texts
    )
    cosines = F.cosine_similarity(first, second)  # (n,)
    found = metrics(data.task, cosines.tolist(), examples)
    errors = standard_errors(data.task, cosines.tolist(), examples)
    metric = data.task.primary_metric
    answer = ConstantAnswer.of(data.task, examples, DEV)
    return Evaluation(
        name=config.name,
        task=name,
        metric=metric,
        score=found[metric],
        standard_error=errors[metric],
        metrics=found,
        standard_errors=errors,
        examples=len(examples),
        sparsity=pruned.sparsity if pruned else None,
        data=data.name,
        embeddings=pipeline.summary,
        cut=len(cut | cut_too),
        notes=(
            *filter(None, (pipeline.note,)),
            *few_note(examples, "dev"),
            *_cut_sentences(len(cut | cut_too), examples),
        ),
        constant_answer=answer.value,
        constant_split=answer.split,
        constant_scores=answer.metrics(data.task, {"": examples}),
    )


def _cut_sentences(cut: int, examples: Examples) -> tuple[str, ...]:
    return (
        (f"{cut:,} of {len(examples):,} pairs have a sentence that is too long and is cut",)
        if cut
        else ()
    )
