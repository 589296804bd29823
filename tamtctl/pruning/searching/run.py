"""The work of a search: load, train the mask, measure it beside the baselines, save."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, cast

import torch
from torch import Tensor

from tamtctl.data.corpus import Corpus
from tamtctl.data.sequences import Sequences
from tamtctl.data.streaming import StreamedText
from tamtctl.foundations.devices import Compute
from tamtctl.foundations.distributed import world
from tamtctl.foundations.folders import folder_size
from tamtctl.foundations.measured_text import MeasuredText
from tamtctl.foundations.watching import StepReport, Watcher
from tamtctl.models.declared_base import DeclaredBase
from tamtctl.models.encoder import Checksums, Encoder
from tamtctl.pruning.config import SearchConfig
from tamtctl.pruning.latency.measuring import exported_latency
from tamtctl.pruning.latency.record import FoundLatency
from tamtctl.pruning.methods import IMP, TAMT
from tamtctl.pruning.patterns import UNSTRUCTURED
from tamtctl.pruning.searching.cached_losses import CachedLosses
from tamtctl.pruning.searching.initial_mask import (
    check_scored,
    initial_start,
    initial_ticket,
    note_on_unranked,
    with_matrices_of,
)
from tamtctl.pruning.searching.mask_probe import MaskProbe, ProbeText
from tamtctl.pruning.searching.measured_masks import losses_of, masks_to_measure
from tamtctl.pruning.searching.opening import open_model
from tamtctl.pruning.searching.pattern_matrices import with_matrices_of_pattern
from tamtctl.pruning.searching.reading import read_text
from tamtctl.pruning.searching.result import SearchPlan, SearchResult
from tamtctl.pruning.searching.watched_training import WatchedTraining
from tamtctl.pruning.trained.initial_scores import Start
from tamtctl.pruning.trained.iterative_pruning import IterativePruning
from tamtctl.pruning.trained.kept_scores import save_scores
from tamtctl.pruning.trained.mask_training import MaskTraining
from tamtctl.ticket.parameter_counts import ParameterCounts
from tamtctl.ticket.ticket import Ticket
from tamtctl.training.checkpoints import Checkpoints
from tamtctl.training.loop import TrainingRun
from tamtctl.training.run_folder import CHECKPOINTS, RunFolder
from tamtctl.training.supervisor import Supervisor


@dataclass(frozen=True, kw_only=True)
class PreparedSearch:
    """Everything a search needs, loaded and checked; the model holds the folded weights."""

    config: SearchConfig
    run: RunFolder
    compute: Compute
    encoder: Encoder
    corpus: Corpus
    held_out: dict[str, ProbeText]  # field of `SearchResult` that gets the losses → text
    keep: dict[str, int]  # name → how many weights each matrix keeps in the end
    calibration_seconds: float
    training: MaskTraining | IterativePruning
    probe: MaskProbe
    checksums: dict[str, str]  # name → SHA-256, of the weights hashed so far
    declared: DeclaredBase | None  # the Hub model that --base-model names
    watched: WatchedTraining
    supervisor: Supervisor
    latency: FoundLatency | None  # None without --latency

    @classmethod
    def prepare(
        cls,
        config: SearchConfig,
        run: RunFolder,
        watcher: Watcher[SearchPlan],
        latency: FoundLatency | None = None,
    ) -> PreparedSearch:
        """Load the model and the text, and check that they fit the request.

        Args:
            config: The configuration, with its sparsity known.
            run: The run's folder.
            watcher: Is told of the progress.
            latency: The record that the sparsity follows from, in a search by latency.
        """
        compute, encoder = open_model(config, watcher)
        encoder = with_matrices_of_pattern(config, encoder, watcher.note)
        checksums = Checksums(encoder.weights)
        ticket = world().in_turn(lambda: initial_ticket(config, encoder, checksums))
        encoder = with_matrices_of(ticket, config, encoder, watcher.note)
        if config.from_scores is not None:
            check_scored(config.from_scores, encoder, checksums)
        corpus, text, held_out = world().in_turn(lambda: read_text(config, encoder, watcher))
        start = _start(config, compute, encoder, text, ticket, watcher)
        declared = _declared(config, encoder, checksums, watcher.note)
        known = dict(checksums)  # only those computed so far: the parameters change from here on
        cache = CachedLosses.of(encoder, [config.objective], compute)
        kind = IterativePruning if config.method == IMP else MaskTraining
        training = kind(config, compute, encoder, text, start)
        probe = MaskProbe(
            encoder, training.frozen, (training.steps.objective,), compute, cache=cache
        )

        def evaluate() -> dict[str, float]:
            with training.steps.pretrained_head():
                losses = probe.losses_as_folded(held_out["losses"])
            return {term: loss.mean for term, loss in losses.items()}

        watched = WatchedTraining(config, training, evaluate)
        # Scores that were trained for another number of neurons cannot be resumed from.
        inputs = {**run.identity, **(latency.identity if latency else {})}
        checkpoints = Checkpoints(run.path / CHECKPOINTS, inputs, compute.circumstances)
        return cls(
            config=config,
            run=run,
            compute=compute,
            encoder=encoder,
            corpus=corpus,
            held_out=held_out,
            keep=start.keep,
            calibration_seconds=start.calibration_seconds,
            training=training,
            probe=probe,
            checksums=known,
            declared=declared,
            watched=watched,
            supervisor=Supervisor(watched, checkpoints, config.checkpoint_every),
            latency=latency,
        )

    def plan(self) -> SearchPlan:
        """Describe what `train` will do."""
        weights, text = self.encoder.weights, self.training.steps.text
        steps = self.config.steps if self.config.is_trained else 0
        to_do = steps - self.supervisor.step
        return SearchPlan(
            config=self.config,
            run_folder=self.run.path,
            device=self.compute.device.type,
            precision=self.compute.precision,
            threads=torch.get_num_threads(),
            model_type=self.encoder.model.config.model_type,
            matrices=len(weights),
            weights=sum(w.numel() for w in weights.values()),
            train_tokens=None if self.config.stream else len(self.corpus.train),
            held_out_tokens=len(self.corpus.held_out),
            train_sequences=(
                None
                if isinstance(text, StreamedText)
                else text.facts(self.corpus.rows, self.corpus.train_unknown)
            ),
            held_out_sequences=self.held_out["losses"].facts,
            steps=steps,
            resumed_from=self.supervisor.step,
            estimated_seconds=to_do * self._seconds_per_step() if to_do else 0.0,
            sparsities=self._sparsities(),
            warnings=tuple(self._warnings()),
            processes=world().size,
            latency=self.latency,
        )

    def _seconds_per_step(self) -> float:
        # A trial beside the moments of an interrupted training would need more memory than that.
        return self.supervisor.seconds_per_step or self.training.seconds_per_step()

    def _warnings(self) -> Iterator[str]:
        training, config = self.training, self.config
        if isinstance(training, MaskTraining) and config.is_trained and config.settled_sparsity > 0:
            yield from training.warnings
        if line := self._text().too_few(config.terms.group_size):
            yield line

    def _sparsities(self) -> dict[str, float]:
        """Return ``embeddings`` and ``layers`` → share of zeros, where the part has matrices."""
        embeddings = self.encoder.embeddings
        sizes = {name: weight.numel() for name, weight in self.encoder.weights.items()}
        parts = {"embeddings": embeddings, "layers": sizes.keys() - embeddings}
        return {
            part: 1 - sum(self.keep[n] for n in names) / sum(sizes[n] for n in names)
            for part, names in parts.items()
            if names
        }

    def _parameter_counts(self) -> ParameterCounts | None:
        """Return the parameter counts of a ticket of a pattern; None for ``unstructured``."""
        if self.config.pattern == UNSTRUCTURED:
            return None
        shapes = {name: tuple(weight.shape) for name, weight in self.encoder.weights.items()}
        base = cast(torch.nn.Module, self.encoder.base)
        random = frozenset() if self.encoder.pooler else self.encoder.unreached
        return ParameterCounts.of(base, shapes, self.keep, self.config.pattern, random)

    def _text(self) -> MeasuredText:
        """Return the text that the losses are taken on."""
        return self.held_out["losses"].scored(self.corpus.held_out_name)

    def follow(self, earlier: SearchResult) -> None:
        """Go on from the ticket of an earlier search by iterative magnitude pruning.

        Raises:
            TicketError: The ticket is not of this model.
        """
        assert isinstance(self.training, IterativePruning)
        weights = self.training.frozen | self.encoder.pooler
        ticket = Ticket.load(earlier.ticket).decode({n: w.cpu() for n, w in weights.items()})
        self.training.follow(ticket.masks)
        self.supervisor.follow(
            StepReport(
                step=earlier.steps,
                steps=self.config.steps,
                terms={},
                learning_rate=0.0,
                flips=self.training.flips(),
                tokens_per_second=earlier.tokens_per_second,
                seconds=earlier.seconds,
                is_last=False,
            )
        )

    def train(self, watcher: Watcher[SearchPlan]) -> TrainingRun:
        """Train, if the method does; the first process writes the log.

        Raises:
            DivergedError: The loss exploded, or is infinite or NaN; the message names the step and
                the last good checkpoint.
        """
        world().on_first(self._start)
        if not self.config.is_trained:
            return TrainingRun(steps=0, seconds=0.0, tokens_per_second=0.0)
        return self.supervisor.run_in(
            self.run, self.config.log_to, self.watched.check_loss, watcher
        )

    def _start(self) -> None:
        self.run.start(after_step=self.supervisor.step)
        if self.latency is not None:
            self.latency.write(self.run.path)

    def finish(self, done: TrainingRun, watcher: Watcher[SearchPlan]) -> SearchResult:
        """Evaluate, save the ticket, and mark the run as finished."""
        masks = self._found_masks()
        watcher.status("evaluating on held-out text")
        metrics = self._metrics(done, masks)
        ticket, latency = self._ticket(masks, metrics), self.latency
        if latency is not None:
            watcher.status("measuring the latency of the exported model")
            exported = exported_latency(ticket, self.config.model, latency.size, latency.backend)
            latency = replace(latency, exported=exported)
            ticket = replace(ticket, metrics={**ticket.metrics, "latency": latency.to_dict()})
        ticket.save_pretrained(self.run.ticket)
        if self.config.keep_scores:
            assert isinstance(self.training, MaskTraining)  # checked in SearchConfig
            save_scores(self.run.path, self.training.folded.scores)
        result = self._result(done, ticket.sparsity, metrics, latency)
        self.run.finish(result.to_dict())
        self.supervisor.checkpoints.remove()
        return result

    def _found_masks(self) -> dict[str, Tensor]:
        initial = self.training.initial.packed
        if not self.config.is_trained:
            return initial.unpacked()
        return self.training.masks | initial.unpacked(self.encoder.pooler)  # out of reach

    def _metrics(self, done: TrainingRun, masks: Mapping[str, Tensor]) -> dict[str, Any]:
        """Measure the masks on held-out text, and return what the ticket records."""
        start = self.training.initial.packed.unpacked
        makers = masks_to_measure(
            self.config, self.training.frozen, start=start, ticket=lambda: masks
        )
        with self.training.steps.pretrained_head():
            losses, errors = losses_of(makers, self.probe, self.held_out)
        flips, text, counts = self.training.flips(), self._text(), self._parameter_counts()
        return {
            "steps": done.steps,
            "flips": flips,
            **({"changed": flips > 0} if self.config.is_trained else {}),
            **({"stopped_early": True} if self.watched.stopped_early else {}),
            **losses,
            "standard_errors": errors,
            "unit": self.config.terms.unit,
            "sequences": text.sequences,
            "sequences_there": text.of,
            "trained_on": list(self.corpus.digests),
            **({} if counts is None else counts.to_metrics()),
        }

    def _result(
        self,
        done: TrainingRun,
        sparsity: float,
        metrics: Mapping[str, Any],
        latency: FoundLatency | None,
    ) -> SearchResult:
        config, text = self.config, self._text()
        return SearchResult(
            ticket=self.run.ticket,
            run_folder=self.run.path,
            model=config.model,
            corpus=" ".join(config.corpus),
            method=config.method,
            objective=config.objective,
            sparsity=sparsity,
            target_sparsity=config.settled_sparsity,
            steps=done.steps,
            seconds=done.seconds,
            calibration_seconds=self.calibration_seconds,
            tokens_per_second=done.tokens_per_second,
            losses=metrics["losses"],
            standard_errors=metrics["standard_errors"],
            check_losses=metrics.get("check_losses", {}),
            flips=metrics["flips"],
            bytes=folder_size(self.run.ticket),
            stopped_early=self.watched.stopped_early,
            resumed_from=self.supervisor.step,
            unit=config.terms.unit,
            sequences=text.sequences,
            sequence_length=config.sequence_length,
            rows=self.corpus.rows,
            held_out={"name": text.name, "sequences": text.of},
            init=config.init,
            changed=metrics.get("changed"),
            allocation=config.allocation,
            sparsities=self._sparsities(),
            parameters=self._parameter_counts(),
            latency=latency,
        )

    def _ticket(self, masks: Mapping[str, Tensor], metrics: Mapping[str, Any]) -> Ticket:
        config, head = self.config, self.training.steps.objective.head
        weights = {n: w.cpu() for n, w in (self.training.frozen | self.encoder.pooler).items()}
        return Ticket.create(
            weights,
            {name: masks[name].cpu() for name in weights},
            base_model_id=self.encoder.id,
            revision=self.encoder.revision,
            model_type=self.encoder.model.config.model_type,
            target_sparsity=config.settled_sparsity,
            allocation="uniform" if config.budgets_by is None else "free",
            method=config.method,
            objective=config.objective,
            pattern=config.pattern,
            search=config.to_dict(),
            declared=self.declared.names if self.declared else None,
            metrics=dict(metrics),
            checksums=Checksums(weights, self.checksums),
            mlm_head={n: p.detach().cpu() for n, p in head.items()}
            if config.method == TAMT and config.is_trained and config.head_rate and head
            else None,
        )


def _start(
    config: SearchConfig,
    compute: Compute,
    encoder: Encoder,
    text: Sequences | StreamedText,
    ticket: Ticket | None,
    watcher: Watcher[SearchPlan],
) -> Start:
    """Put the model on its device, and return the masks that the search starts from."""
    needs_text = any(row.needs_text for row in config.criteria)
    if not needs_text:
        start = world().in_turn(lambda: initial_start(config, encoder, text, ticket))
    compute.place(encoder.model)
    if needs_text:  # processes need the same mask, not one per share of a stream
        names = " and ".join(dict.fromkeys(row.name for row in config.criteria))
        watcher.status(f"ranking the weights by {names}")
        start = world().on_first(lambda: initial_start(config, encoder, text, ticket))
    if line := note_on_unranked(config, start):
        watcher.note(line)
    return start


def _declared(
    config: SearchConfig, encoder: Encoder, checksums: Checksums, note: Callable[[str], None]
) -> DeclaredBase | None:
    """Return the Hub model that the search says its weights are from; None if it says none."""
    if config.base_model is None:
        return None
    declared = DeclaredBase.of(config.base_model, {n: checksums[n] for n in encoder.weights})
    note(declared.note)
    return declared
