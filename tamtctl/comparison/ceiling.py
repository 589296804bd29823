"""Ceilings: the dense model after ordinary training, for tickets that beat the dense model.

Such a ticket has learnt the text, so the dense model is trained on the batches of the ticket's
search, for as many steps. Three learning rates are tried for a fifth of the steps: that of
iterative pruning, a tenth and a hundredth of it. The best on a part of the training text, which
these trials leave out, is taken.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from tamtctl.comparison.config import CompareConfig
from tamtctl.comparison.grid import Cell
from tamtctl.comparison.intervals import loss_difference
from tamtctl.comparison.measures import term_of
from tamtctl.comparison.opening import Opened
from tamtctl.comparison.subnetworks import Ceiling, Subnetwork
from tamtctl.comparison.sweep import CompareWatcher
from tamtctl.foundations.errors import DivergedError
from tamtctl.models.loading import load_encoder
from tamtctl.pruning.methods import IMP, TRAINED
from tamtctl.pruning.objectives import TERMS, terms_of
from tamtctl.pruning.searching import cached_losses
from tamtctl.pruning.searching.held_out_text import HeldOutText
from tamtctl.pruning.searching.mask_probe import MaskProbe
from tamtctl.pruning.trained.weight_training import WeightTraining
from tamtctl.training.run_folder import write_json

_VERSION = 3  # raise it whenever the same request would give other losses
_SHARES = (1.0, 0.1, 0.01)  # rates that are tried, as shares of the rate of iterative pruning
_TRIAL = 5  # rates are tried for a fifth of the steps


def ceilings(
    opened: Opened, subnetworks: Sequence[Subnetwork], watcher: CompareWatcher
) -> list[Ceiling]:
    """Return a ceiling for each number of steps after which a ticket is below the dense model."""
    found: dict[int, Ceiling] = {}
    for one, measure in below_dense(subnetworks):
        if one.steps and one.path and not one.is_given and one.steps not in found:
            watcher.note(
                f"{one.name} at {one.level} is below the dense model: training that for "
                f"{one.steps} steps, too"
            )
            found[one.steps] = _ceiling(opened, one, measure)
    return [found[steps] for steps in sorted(found)]


def below_dense(subnetworks: Sequence[Subnetwork]) -> Iterator[tuple[Subnetwork, str]]:
    """Yield each trained mask that beats the dense model, and the measure of its loss."""
    dense, *others = subnetworks
    for one in (other for other in others if other.found_by in TRAINED):
        for measure, loss in one.losses.items():
            if TERMS[term_of(measure)].is_distance:
                continue
            interval = loss_difference([loss], [dense.losses[measure]])
            if interval.is_claimed and interval.value < 0:
                yield one, measure


def _ceiling(opened: Opened, one: Subnetwork, measure: str) -> Ceiling:
    assert one.path is not None
    assert one.steps is not None
    config, text = opened.config, opened.bench.text
    rates = [share * _usual_rate(config, one) for share in _SHARES]
    file = _file(one.path.parent, text, measure, one.steps, rates)
    if file and (known := _read(file, measure, one.steps, text.terms)):
        return known
    training, probe = _prepared(opened, one, measure)
    choosing, trial = opened.bench.choosing_text, max(1, one.steps // _TRIAL)
    apart = text.training_text_apart()

    def judged(rate: float) -> float:
        try:
            with training.trained(trial, rate, apart):
                return probe.losses_as_folded(choosing.cut)[term_of(measure)].mean
        except DivergedError:
            return math.inf

    rate = min(rates, key=judged)
    with training.trained(one.steps, rate):
        losses = probe.losses_as_folded(text.cut)
    if file:
        write_json(file, {"rate": rate, "losses": cached_losses.to_dict(losses)})
    return Ceiling(measure, one.steps, rate, losses)


def _usual_rate(config: CompareConfig, one: Subnetwork) -> float:
    """Return the learning rate of weights in the recipe: that of iterative pruning."""
    return config.search_config(Cell(IMP, one.sparsity, one.seed)).learning_rate


def _prepared(opened: Opened, one: Subnetwork, measure: str) -> tuple[WeightTraining, MaskProbe]:
    """Return the training of the dense model on a search's text, and what measures its losses."""
    config, text = opened.config, opened.bench.text
    search = config.search_config(Cell(one.method, one.sparsity, one.seed))
    search = search.filled_in(objective=term_of(measure))
    needs_head = any(terms_of(name).need_head for name in text.terms)
    encoder = load_encoder(search.model, with_head=needs_head, revision=text.encoder.revision)
    text.compute.place(encoder.model)
    whole = text.training_text()
    training = WeightTraining(search, text.compute, encoder, whole)
    objectives = tuple(training.objective(name) for name in text.terms)
    return training, MaskProbe(encoder, {}, objectives, text.compute)


def _file(
    folder: Path, text: HeldOutText, measure: str, steps: int, rates: Sequence[float]
) -> Path | None:
    """Return the file of a ceiling: in the ticket's run folder, named by what it depends on.

    None if a term's code has no file.
    """
    definition = cached_losses.definition_of(text.terms)
    if definition is None:
        return None
    facts = [
        _VERSION,
        definition,
        measure,
        steps,
        list(rates),
        text.scored.sequences,
        text.compute.circumstances,
    ]
    said = json.dumps([*facts, sorted(map(str, text.identity.items()))])
    return folder / f"ceiling-{hashlib.sha256(said.encode()).hexdigest()[:16]}.json"


def _read(file: Path, measure: str, steps: int, terms: Sequence[str]) -> Ceiling | None:
    try:
        values: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
        rate = float(values["rate"])
    except (OSError, ValueError, TypeError, KeyError):
        return None
    losses = cached_losses.from_dict(values.get("losses"), terms)
    return Ceiling(measure, steps, rate, losses) if losses else None
