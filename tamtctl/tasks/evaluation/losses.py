"""Losses of a ticket, an encoder or a checkpoint on held-out text."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

from tamtctl.data.corpus import load_corpus
from tamtctl.data.noise import Noise
from tamtctl.data.text.documents import PYTHON_DOCS
from tamtctl.data.units import rows_of
from tamtctl.foundations.devices import Compute
from tamtctl.foundations.errors import ModelError, NoHeadError, UsageError
from tamtctl.foundations.measured_text import MeasuredText
from tamtctl.models.encoder import Encoder, check_length, max_sequence_length
from tamtctl.models.loading import load_config, load_encoder
from tamtctl.models.structures import feed_forwards, with_biases
from tamtctl.models.usual_rows import usual_rows
from tamtctl.pruning.objectives import Terms, headless, terms_of
from tamtctl.pruning.objectives.held_out_loss import total_error
from tamtctl.pruning.objectives.objective import Objective
from tamtctl.pruning.objectives.pooling import sentence_pooling
from tamtctl.pruning.recovery.record import recovered_from, trainings_of
from tamtctl.pruning.searching.mask_probe import MaskProbe, ProbeText
from tamtctl.tasks.benchmarks.table import zero_shot_tasks
from tamtctl.tasks.evaluation.checkpoint import FineTuned
from tamtctl.tasks.evaluation.config import HEAD_SOURCES, EvaluateConfig
from tamtctl.tasks.evaluation.options import check_model, check_options, needing
from tamtctl.tasks.evaluation.result import Evaluation
from tamtctl.ticket.heads import fitting_head, head_parameters, put_head
from tamtctl.ticket.texts import sequence_length_of
from tamtctl.ticket.ticket import Ticket
from tamtctl.ticket.trained_on import TrainedOn, Training

_SEQUENCE_LENGTH = 128  # tokens, if no ticket names a length
_BLOCKS = 512  # sequences at most, spread over the text


def evaluate_loss(
    config: EvaluateConfig, task: str, ticket: Ticket | None, fine_tuned: FineTuned | None
) -> Evaluation:
    """Return losses on held-out text; the same text gets the same masked tokens for every model.

    Args:
        config: What to measure, and on what.
        task: A term of an objective, or several joined by ``+``.
        ticket: The ticket to measure; None for a model.
        fine_tuned: The checkpoint to measure, if it is one of a fine-tuning run.

    Raises:
        TamtctlError: The options, the model, the ticket or the text is refused.
    """
    check_options(config, task)
    check_model(config, task, ticket)
    pruned = ticket or fine_tuned
    terms = terms_of(task)
    dense = None if ticket else _dense_model(config, terms, fine_tuned)
    compute = Compute.choose(config.device, config.precision, config.threads)
    encoder = load_for(config, ticket, terms)
    head = _trained_head(config, ticket, encoder) if terms.need_head else None
    cut, text, notes = _held_out(config, ticket, encoder, terms)
    teacher = _teacher(dense, encoder, compute.device) if dense else None
    compute.place(encoder.model)
    frozen = {name: p.detach().clone() for name, p in encoder.matrices.items()}
    pooling = sentence_pooling(dense, None, terms) if dense else None
    objective = Objective(encoder, task, frozen, teacher, pooling)
    masks = masks_of(ticket, encoder) if ticket else None
    if head is not None:
        put_head(head, objective.head, encoder.model)
    probe = MaskProbe(encoder, frozen, (objective,), compute, config.batch_size)
    losses = probe.losses(cut, masks)
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
        data=" ".join(_sources(config)),
        head=(config.head or HEAD_SOURCES[0]) if terms.need_head else None,
        unit=terms.unit,
        units={name: terms_of(name).unit for name in means},
        text=text,
        sequences=cut.facts,
        notes=(*notes, *filter(None, [text.why_unsure(terms.group_size, errors[task])])),
    )


def _sources(config: EvaluateConfig) -> Sequence[str]:
    return config.corpus or (PYTHON_DOCS,)


def _held_out(
    config: EvaluateConfig, ticket: Ticket | None, encoder: Encoder, terms: Terms
) -> tuple[ProbeText, MeasuredText, list[str]]:
    """Return the held-out text as sequences, what is shown of it, and notes on it."""
    length = config.sequence_length or min(
        _sequence_length(ticket), max_sequence_length(encoder.model)
    )
    check_length(length, encoder.model, what="--sequence-length")
    trained_on = TrainedOn(
        (Training.of(ticket),) if ticket else trainings_of(config.name), config.held_out_tenth
    )
    notes: list[str] = []
    corpus = load_corpus(
        _sources(config),
        encoder.tokenizer,
        rows=config.rows or _rows(config, ticket, notes.append),
        whole=trained_on.choose,
        text_column=config.text_columns[0] if config.text_columns else None,
    )
    cut = ProbeText.cut(
        corpus,
        encoder,
        sequence_length=length,
        noise=Noise.of(encoder.tokenizer) if terms.need_noise else None,
        limit=config.blocks or _BLOCKS,
    )
    name = "; ".join(filter(None, (corpus.held_out_name, trained_on.remark)))
    return cut, cut.scored(name), [*notes, *corpus.notes]


def _dense_model(config: EvaluateConfig, terms: Terms, fine_tuned: FineTuned | None) -> str | None:
    """Return the dense model that an encoder is compared with, None if no term needs one.

    Raises:
        UsageError: A term needs one, and neither --model nor the checkpoint names it.
        ModelError: There is no such checkpoint.
    """
    if not terms.need_teacher:
        return None
    used = (
        fine_tuned.facts.model if fine_tuned and fine_tuned.facts else recovered_from(config.name)
    )
    if not (config.model or used):
        load_config(config.name)  # raises if there is no such model at all
        raise UsageError(
            f"{needing('teacher', terms)} measures how far an encoder is from the dense model "
            f"it was made of, and {config.name} does not say which that is; give it with --model"
        )
    return config.model or used


def _teacher(dense: str, encoder: Encoder, device: torch.device) -> dict[str, Tensor]:
    """Return name → weight of a dense model, for the encoder to run with.

    The dense model may have more feed-forward neurons: layers compute with the weights that they
    are given.

    Raises:
        ModelError: The encoder has other parameters or shapes, or its vocabulary was trimmed.
    """
    teacher = load_encoder(dense, with_head=False)
    weights = {name: p.detach().to(device) for name, p in teacher.base.named_parameters()}
    own = dict(encoder.base.named_parameters())
    sliced = _of_feed_forwards(own) & _of_feed_forwards(weights)
    (words,) = encoder.embeddings
    for name in sorted((n for n in own if n not in sliced), key=lambda name: name == words):
        if name in weights and weights[name].shape == own[name].shape:
            continue
        if name == words and name in weights:
            raise ModelError(
                f"{encoder.id} has {len(own[name]):,} tokens and model {dense!r} "
                f"{len(weights[name]):,}: hidden states of other tokens cannot be compared"
            )
        raise ModelError(
            f"{encoder.id} is not made of model {dense!r}, whose {name} is "
            f"{'missing' if name not in weights else list(weights[name].shape)}; "
            "give the right --model"
        )
    return {name: weights[name] for name in own}


def _of_feed_forwards(parameters: Mapping[str, Tensor]) -> frozenset[str]:
    """Return the names of the parameters whose shapes depend on the number of neurons."""
    try:
        found = feed_forwards({n: tuple(p.shape) for n, p in parameters.items() if p.dim() == 2})
    except ValueError:
        return frozenset()
    firsts = {name for one in found.values() for name in one.firsts}
    return frozenset(with_biases(firsts) | {one.second for one in found.values()})


def _sequence_length(ticket: Ticket | None) -> int:
    return (sequence_length_of(ticket) if ticket else None) or _SEQUENCE_LENGTH


def _rows(config: EvaluateConfig, ticket: Ticket | None, note: Callable[[str], None]) -> str:
    """Return the default unit of text: that of the ticket's search, else the usual of the model."""
    return rows_of(ticket.search) if ticket else usual_rows(*id_of(config, None), note=note)


def load_for(config: EvaluateConfig, ticket: Ticket | None, terms: Terms | None = None) -> Encoder:
    """Load the encoder to measure.

    Raises:
        ModelError: It cannot be loaded, or lacks the masked-LM head that a term needs.
    """
    name, revision = id_of(config, ticket)
    terms = terms or Terms()
    try:
        return load_encoder(name, with_head=terms.need_head, revision=revision)
    except NoHeadError as error:
        other = headless()
        model = " --model DENSE" if other.needs_teacher and not ticket else ""
        raise ModelError(
            f"model {name!r} has no pre-trained masked-LM head, which {needing('head', terms)} "
            f"takes; --task {other.name}{model} needs none, and "
            f"--task {next(iter(zero_shot_tasks()))} scores its sentence embeddings"
        ) from error


def id_of(config: EvaluateConfig, ticket: Ticket | None) -> tuple[str, str | None]:
    """Return name and revision of the encoder to load."""
    return ticket.find_base(config.model) if ticket else (config.name, None)


def masks_of(ticket: Ticket, encoder: Encoder) -> Mapping[str, Tensor]:
    """Return name → boolean mask (True keeps) of a ticket that was found for this encoder.

    Raises:
        TicketError: The encoder holds other weights.
    """
    return ticket.full_masks(
        encoder.weights, model=encoder.id, remedy="give the ticket's own --model"
    )


def _trained_head(
    config: EvaluateConfig, ticket: Ticket | None, encoder: Encoder
) -> Mapping[str, Tensor] | None:
    """Return the head that was trained with the ticket, None if it is not asked for.

    Raises:
        UsageError: It is asked for, and there is none.
    """
    if config.head != "ticket":
        return None
    if ticket is None or ticket.mlm_head is None:
        what = "has no masked-LM head of its own" if ticket else "is no ticket"
        raise UsageError(f"--head ticket: {config.name} {what}; use --head pretrained")
    return fitting_head(ticket.mlm_head, head_parameters(encoder.model), encoder.model)
