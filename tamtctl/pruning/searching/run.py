"""From a configuration to a ticket: load, train the mask, evaluate beside the baselines, save."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor

from tamtctl.data.batches import Blocks, Noise
from tamtctl.data.corpus import Corpus, load_corpus
from tamtctl.data.streaming import StreamedText
from tamtctl.foundations.devices import Compute
from tamtctl.foundations.distributed import world
from tamtctl.foundations.errors import (
    DamagedRunError,
    DivergedError,
    TamtctlError,
    TicketError,
    UsageError,
)
from tamtctl.foundations.folders import folder_size
from tamtctl.foundations.loss_units import ScoredText
from tamtctl.foundations.paths import expanded, folder_name
from tamtctl.foundations.public_names import public_model
from tamtctl.foundations.shown import Shown
from tamtctl.foundations.signals import KEPT, promising
from tamtctl.foundations.watching import Silent, StepReport, Watcher, default_watcher
from tamtctl.foundations.working import counted, watched
from tamtctl.models.declared_base import DeclaredBase
from tamtctl.models.encoder import Encoder, sha256_of_weight
from tamtctl.models.loading import load_encoder
from tamtctl.pruning.config import SearchConfig
from tamtctl.pruning.criteria import baselines
from tamtctl.pruning.criteria.context import Context
from tamtctl.pruning.cuts import cut_sparsities
from tamtctl.pruning.methods import IMP, TAMT
from tamtctl.pruning.objectives.held_out_loss import total_error
from tamtctl.pruning.one_shot import keep_counts, one_shot_masks
from tamtctl.pruning.searching.identity import search_identity
from tamtctl.pruning.searching.initial_mask import (
    check_scored,
    initial_masks,
    with_matrices_of_init,
)
from tamtctl.pruning.searching.mask_probe import MaskProbe, ProbeText, check_sequence_length
from tamtctl.pruning.searching.watched_training import WatchedTraining
from tamtctl.pruning.trained.iterative_pruning import IterativePruning
from tamtctl.pruning.trained.kept_scores import save_scores
from tamtctl.pruning.trained.mask_training import MaskTraining
from tamtctl.pruning.trained.reach import warn_of_reach
from tamtctl.ticket.ticket import Ticket
from tamtctl.training.checkpoints import Checkpoints
from tamtctl.training.loop import TrainingRun
from tamtctl.training.run_folder import CHECKPOINTS, RUNS, SCORES, RunFolder
from tamtctl.training.run_log import RunLog, check_log_to
from tamtctl.training.supervisor import Supervisor

_TABLES = ("losses", "standard_errors", "check_losses")  # fields of a result: loss by candidate


@dataclass(frozen=True, repr=False)
class SearchPlan(Shown):
    """What a search is about to do.

    Attributes:
        config: The configuration.
        run_folder: Where the run will live.
        device: Where it computes: ``cpu``, ``cuda`` or ``mps``.
        precision: ``fp32`` or ``bf16``.
        threads: CPU threads of each process.
        model_type: The encoder's family.
        matrices: How many matrices are masked.
        weights: How many weights they hold.
        train_tokens: Size of the training text; None if it is streamed.
        held_out_tokens: Size of the held-out text.
        steps: Optimiser steps; 0 for one-shot methods.
        resumed_from: Steps that an earlier, interrupted run has done already.
        estimated_seconds: Seconds that the remaining steps take, from a timed probe.
        warnings: What a person should know before it starts.
        processes: How many take part.
    """

    config: SearchConfig
    run_folder: Path
    device: str
    precision: str
    threads: int
    model_type: str
    matrices: int
    weights: int
    train_tokens: int | None
    held_out_tokens: int
    steps: int
    resumed_from: int
    estimated_seconds: float
    warnings: tuple[str, ...] = ()
    processes: int = 1

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return asdict(self) | {
            "config": self.config.to_dict(),
            "run_folder": str(self.run_folder),
        }


@dataclass(frozen=True, repr=False)
class SearchResult(Shown):
    """What a search found; ``losses`` map ``dense``, ``random``, ``magnitude`` and ``ticket``.

    Attributes:
        ticket: The ticket's folder.
        run_folder: The run's folder.
        model: As asked for.
        corpus: As asked for.
        method: ``tamt``, ``imp``, ``magnitude`` or ``random``.
        objective: What the losses measure.
        sparsity: Share of zeros, measured over all masked weights.
        target_sparsity: As asked for.
        steps: Optimiser steps done.
        seconds: Seconds of training.
        tokens_per_second: Batch positions per second of training, without the first five steps.
        losses: Mask → loss of the objective on held-out text, with the pre-trained head.
        standard_errors: Mask → error of its loss; None where sequences are too few to tell.
        check_losses: The same on ``check_corpus``; empty without one.
        flips: Share of the mask that differs from the initial one.
        bytes: Size of the ticket's files.
        stopped_early: Whether ``patience`` ended the training.
        resumed_from: The step that the run went on from; 0 if from the start.
        already_done: Whether an earlier run had found it.
        unit: The unit of the losses.
        sequences: Held-out sequences that the losses were taken on.
        sequence_length: Tokens of each.
        held_out: The whole held-out text: what it is, and how many sequences it has.
        init: What the mask was at first: ``magnitude``, ``random`` or a ticket.
        changed: Whether training moved the mask from there; None if nothing was trained.
    """

    ticket: Path
    run_folder: Path
    model: str
    corpus: str
    method: str
    objective: str
    sparsity: float
    target_sparsity: float
    steps: int
    seconds: float
    tokens_per_second: float
    losses: dict[str, float]
    standard_errors: dict[str, float | None]
    check_losses: dict[str, float]
    flips: float
    bytes: int
    stopped_early: bool = False
    resumed_from: int = 0
    already_done: bool = False
    unit: str | None = None
    sequences: int | None = None
    sequence_length: int | None = None
    held_out: dict[str, Any] | None = None
    init: str = "magnitude"
    changed: bool | None = None

    @property
    def text(self) -> ScoredText | None:
        """What the losses were taken on; None if an older version did not write it down."""
        if not (self.sequences and self.sequence_length and self.held_out):
            return None
        name, of = self.held_out["name"], self.held_out["sequences"]
        return ScoredText(name, self.sequences, of, self.sequence_length)

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return asdict(self) | {"ticket": str(self.ticket), "run_folder": str(self.run_folder)}


@watched(default_watcher)
def search(
    config: SearchConfig,
    *,
    output_dir: Path | str | None = None,
    force: bool = False,
    after: SearchResult | None = None,
    watcher: Watcher[SearchPlan] | None = None,
) -> SearchResult:
    """Find a ticket and save it (TAMT, §3).

    A search that was interrupted, in whatever way, goes on from its last checkpoint.

    Args:
        config: What to do.
        output_dir: The run's folder; by default one under ``runs/`` named after the configuration.
        force: Redo a finished run; start an interrupted one anew.
        after: Go on from this search by ``imp``, which differs in its lower sparsity alone: what is
            found is the same as from the start. See `can_follow`.
        watcher: Is told of the plan and the progress.

    Returns:
        The result; at once if the folder holds a finished run of this configuration.

    Raises:
        TamtctlError: Anything that stops the search, before training where it can be known.
    """
    run = world().on_first(lambda: _run_folder(config, output_dir))
    earlier_result = partial(_earlier_result, run, force=force)
    if done := world().on_first(earlier_result):
        if config.keep_scores and not (run.path / SCORES).is_file():
            raise TamtctlError(
                f"the search in {str(run.path)!r} was done without keeping its scores; --force "
                "does it again"
            )
        return done
    check_log_to(config.log_to)
    watcher = watcher or Silent()
    prepared = PreparedSearch.prepare(config, run, watcher)
    with ExitStack() as locks:
        world().on_first(lambda: locks.enter_context(run.locked()))
        locks.enter_context(promising(KEPT))
        if done := world().on_first(earlier_result):  # while this process was loading
            return done
        if force:
            world().on_first(prepared.supervisor.checkpoints.remove)
        prepared.supervisor.resume(watcher.note)
        if after and not prepared.supervisor.step:
            prepared.follow(after)
        watcher.plan(prepared.plan())
        training = prepared.train(watcher)
        return world().on_first(lambda: prepared.finish(training, watcher))


def can_follow(config: SearchConfig, earlier: SearchConfig) -> bool:
    """Tell whether a search can go on from an earlier one, see `search`.

    Iterative magnitude pruning that rewinds hands nothing but masks from one cut to the next.
    """
    return (
        config.method == IMP
        and config.rewind == "weights"
        and earlier.sparsity in cut_sparsities(config.sparsity)[:-1]
        and replace(config, sparsity=earlier.sparsity, steps=earlier.steps) == earlier
    )


@watched(default_watcher)
def plan_search(
    config: SearchConfig,
    *,
    output_dir: Path | str | None = None,
    watcher: Watcher[SearchPlan] | None = None,
) -> SearchPlan:
    """Return what `search` would do, after the same checks; nothing is written but caches."""
    run = world().on_first(lambda: _run_folder(config, output_dir))
    world().on_first(run.finished)
    check_log_to(config.log_to)
    return PreparedSearch.prepare(config, run, watcher or Silent()).plan()


def search_folder(config: SearchConfig) -> Path:
    """Return the run folder of a search that is asked for none."""
    return _run_path(config, None)


def find_search(config: SearchConfig) -> SearchResult | None:
    """Return what a finished search of this configuration found, None if there is none.

    Raises:
        DamagedRunError: Its folder holds something else, or not all of it.
        ChangedInputsError: It was made of something else than there is now.
    """
    run = _run_folder(config, None)
    try:
        return _earlier_result(run, force=False)
    except UsageError as error:
        raise DamagedRunError(
            f"the run folder {str(run.path)!r} holds no run of its own configuration; "
            "--force rebuilds it"
        ) from error


def default_recipe(config: SearchConfig) -> tuple[str, str]:
    """Return the recipe to use where none is asked for, and why, for the first line printed."""
    if Compute.choose(config.device, "fp32").device.type == "cuda":
        return "paper", "a CUDA GPU is present; --recipe nano takes a minute"
    return "nano", "no CUDA GPU is used; --recipe paper is the paper's, for GPUs"


def _earlier_result(run: RunFolder, *, force: bool) -> SearchResult | None:
    """Return what a finished run of this configuration found, if its ticket is still intact."""
    values = run.finished(force=force)
    if values is None:
        return None
    try:
        Ticket.load(run.ticket)
        folders = {"ticket": run.ticket, "run_folder": run.path}
        rows = {key: _in_order(values[key]) for key in _TABLES if key in values}
        return SearchResult(**(values | rows | folders | {"already_done": True}))
    except (TicketError, TypeError) as error:  # TypeError: fields of another version
        raise DamagedRunError(
            f"the finished run in {str(run.path)!r} is damaged ({error}); --force redoes it"
        ) from error


def _in_order(losses: Mapping[str, Any]) -> dict[str, Any]:
    """Return losses in the order in which they are taken, which a file does not keep."""
    return {name: losses[name] for name in _candidates() if name in losses}


def _candidates() -> tuple[str, ...]:
    """Return the masks that a search measures, what is farthest from a ticket first."""
    return ("dense", *(row.name for row in reversed(baselines())), "ticket")


def _run_folder(config: SearchConfig, output_dir: Path | str | None) -> RunFolder:
    path = _run_path(config, output_dir)
    return RunFolder(path, config.to_dict(), search_identity(config))


def _run_path(config: SearchConfig, output_dir: Path | str | None) -> Path:
    short = f"{folder_name(Path(config.model).name)}-{config.sparsity:g}-{config.method}"
    if config.method == TAMT:
        short += f"-{config.objective}"
    return expanded(output_dir or RUNS / f"search-{short}-{config.hash}")


@dataclass(frozen=True, kw_only=True)
class PreparedSearch:
    """Everything a search needs, loaded and checked; the model holds the folded weights."""

    config: SearchConfig
    run: RunFolder
    compute: Compute
    encoder: Encoder
    corpus: Corpus
    held_out: dict[str, ProbeText]  # by the field of `SearchResult` that its losses go into
    training: MaskTraining | IterativePruning
    probe: MaskProbe
    declared: DeclaredBase | None  # whose weights the model's folder holds
    watched: WatchedTraining
    supervisor: Supervisor

    @classmethod
    def prepare(
        cls, config: SearchConfig, run: RunFolder, watcher: Watcher[SearchPlan]
    ) -> PreparedSearch:
        """Load the model and the text, and check that they fit the request."""
        world().check_batch(config.batch_size)
        compute = Compute.choose(config.device, config.precision, config.threads)
        if config.low_memory and compute.device.type != "cpu":
            raise UsageError(
                f"--low-memory is for --device cpu: on {compute.device.type} the frozen weights "
                "are needed where the model is"
            )
        if config.compile:
            watcher.status("trying the compiler")
            compute.check_compiler()
        if config.base_model is not None and public_model(config.model)[0] == config.model:
            raise UsageError(
                f"--base-model is for a --model in a local folder, and {config.model!r} is none"
            )
        watcher.status(f"loading model {config.model}")
        encoder = world().in_turn(lambda: load_encoder(config.model, with_head=config.needs_head))
        check_sequence_length(
            config.sequence_length, encoder, told="--sequence-length", remedy="give"
        )
        encoder = world().in_turn(lambda: with_matrices_of_init(config, encoder, watcher.note))
        if config.from_scores is not None:
            check_scored(config.from_scores, encoder)
        corpus, text, held_out = world().in_turn(lambda: _read_text(config, encoder, watcher))
        if not config.criterion.needs_text:
            masks = world().in_turn(lambda: initial_masks(config, encoder, text))
        cast(torch.nn.Module, encoder.model).to(compute.device)  # its own signature is hidden
        if config.criterion.needs_text:  # a stream is read in shares, and all start from one mask
            watcher.status(f"ranking the weights by {config.criterion.name}")
            masks = world().on_first(lambda: initial_masks(config, encoder, text))
        declared = None
        if config.base_model is not None:
            hashes = {name: sha256_of_weight(weight) for name, weight in encoder.weights.items()}
            declared = DeclaredBase.of(config.base_model, hashes)
            watcher.note(declared.note)
        kind = IterativePruning if config.method == IMP else MaskTraining
        training = kind(config, compute, encoder, text, masks)

        probe = MaskProbe(encoder, training.frozen, (training.steps.objective,), compute)

        def evaluate() -> dict[str, float]:
            with training.steps.pretrained_head():
                losses = probe.losses_as_folded(held_out["losses"])
            return {term: loss.mean for term, loss in losses.items()}

        watched_training = WatchedTraining(config, training, evaluate)
        checkpoints = Checkpoints(run.path / CHECKPOINTS, run.identity, compute.circumstances)
        return cls(
            config=config,
            run=run,
            compute=compute,
            encoder=encoder,
            corpus=corpus,
            held_out=held_out,
            training=training,
            probe=probe,
            declared=declared,
            watched=watched_training,
            supervisor=Supervisor(watched_training, checkpoints, config.checkpoint_every),
        )

    def plan(self) -> SearchPlan:
        """Describe what `train` will do."""
        weights = self.encoder.weights
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
            steps=steps,
            resumed_from=self.supervisor.step,
            estimated_seconds=to_do * self.training.seconds_per_step() if to_do else 0.0,
            warnings=tuple(self._warnings()),
            processes=world().size,
        )

    def _warnings(self) -> Iterator[str]:
        config = self.config
        trains_mask = config.method == TAMT and config.is_trained and config.sparsity > 0
        if trains_mask and (line := warn_of_reach(config, self.training.decay_steps)):
            yield line
        if line := self._text().too_few:
            yield line

    def _text(self) -> ScoredText:
        """Return what the losses are taken on."""
        return self.held_out["losses"].scored(
            self.corpus.held_out_name, self.config.sequence_length
        )

    def follow(self, earlier: SearchResult) -> None:
        """Go on from the ticket of an earlier search by iterative magnitude pruning.

        Raises:
            TicketError: It is not of this model.
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
        """Train if the method does; the first process keeps the log.

        Raises:
            DivergedError: The loss exploded or is no number; the message names the step and the
                last good checkpoint.
        """

        def progress(report: StepReport) -> None:
            watcher.progress(report)
            self.watched.check_loss(report)

        after_step = self.supervisor.step
        world().on_first(lambda: self.run.start(after_step=after_step))
        if not self.config.is_trained:
            return TrainingRun(steps=0, seconds=0.0, tokens_per_second=0.0)
        try:
            if not world().is_first:
                return self.supervisor.run(None, progress, watcher.note)
            with RunLog(self.run.path, self.config.log_to, after_step) as log:
                return self.supervisor.run(log, progress, watcher.note)
        except DivergedError as error:
            good = self.supervisor.checkpoints.paths()
            last = f"the last good checkpoint is {good[-1]}" if good else "none was saved before"
            raise DivergedError(f"{error}; {last}") from error

    def finish(self, training: TrainingRun, watcher: Watcher[SearchPlan]) -> SearchResult:
        """Evaluate and save: from now on the run is finished."""
        config = self.config
        initial = self.training.initial
        masks = (
            self.training.masks | initial.masks(self.encoder.pooler)  # which training cannot reach
            if config.is_trained
            else initial.masks()
        )
        watcher.status("evaluating on held-out text")
        losses, errors = self._losses(masks)
        flips = self.training.flips()
        changed = flips > 0 if config.is_trained else None
        text = self._text()
        metrics = {
            "steps": training.steps,
            "flips": flips,
            **({} if changed is None else {"changed": changed}),
            **({"stopped_early": True} if self.watched.stopped_early else {}),
            **losses,
            "standard_errors": errors,
            "unit": config.terms.unit,
            "sequences": text.sequences,
            "sequences_there": text.of,
            "trained_on": list(self.corpus.digests),
        }
        ticket = self._ticket(masks, metrics)
        ticket.save_pretrained(self.run.ticket)
        if config.keep_scores:
            assert isinstance(self.training, MaskTraining)  # SearchConfig sees to it
            save_scores(self.run.path, self.training.folded.scores)
        result = SearchResult(
            ticket=self.run.ticket,
            run_folder=self.run.path,
            model=config.model,
            corpus=" ".join(config.corpus),
            method=config.method,
            objective=config.objective,
            sparsity=ticket.sparsity,
            target_sparsity=config.sparsity,
            steps=training.steps,
            seconds=training.seconds,
            tokens_per_second=training.tokens_per_second,
            losses=losses["losses"],
            standard_errors=errors,
            check_losses=losses.get("check_losses", {}),
            flips=flips,
            bytes=folder_size(self.run.ticket),
            stopped_early=self.watched.stopped_early,
            resumed_from=self.supervisor.step,
            unit=config.terms.unit,
            sequences=text.sequences,
            sequence_length=config.sequence_length,
            held_out={"name": text.name, "sequences": text.of},
            init=config.init,
            changed=changed,
        )
        self.run.finish(result.to_dict())
        self.supervisor.checkpoints.remove()
        return result

    def _losses(
        self, masks: Mapping[str, Tensor]
    ) -> tuple[dict[str, dict[str, float]], dict[str, float | None]]:
        """Evaluate the masks and the baselines at their sparsity, with the pre-trained head.

        Returns:
            By the field of `SearchResult`, mask → loss; and mask → standard error of ``losses``.
        """
        config, frozen = self.config, self.training.frozen
        context = Context(weights=frozen, seed=config.seed)
        keep = keep_counts(frozen, config.sparsity)
        candidates: dict[str, Callable[[], Mapping[str, Tensor] | None]] = {
            name: partial(one_shot_masks, name, context, keep) for name in _candidates()
        }
        candidates["dense"] = lambda: None
        candidates["ticket"] = lambda: masks
        losses: dict[str, dict[str, float]] = {name: {} for name in self.held_out}
        errors: dict[str, float | None] = {}
        for candidate, make in counted(candidates.items(), "measuring mask", len(candidates)):
            mask = make()
            for name, text in self.held_out.items():
                with self.training.steps.pretrained_head():
                    terms = self.probe.losses(text, mask)
                losses[name][candidate] = math.fsum(term.mean for term in terms.values())
                if name == "losses":
                    errors[candidate] = total_error(terms.values())
        return losses, errors

    def _ticket(self, masks: Mapping[str, Tensor], metrics: Mapping[str, Any]) -> Ticket:
        config, head = self.config, self.training.steps.objective.head
        weights = self.training.frozen | self.encoder.pooler
        return Ticket.create(
            {name: weight.cpu() for name, weight in weights.items()},
            {name: masks[name].cpu() for name in weights},
            base_model_id=self.encoder.id,
            revision=self.encoder.revision,
            model_type=self.encoder.model.config.model_type,
            target_sparsity=config.sparsity,
            method=config.method,
            objective=config.objective,
            search=config.to_dict(),
            declared=self.declared.names if self.declared else None,
            metrics=dict(metrics),
            mlm_head={n: p.detach().cpu() for n, p in head.items()}
            if config.method == TAMT and config.is_trained and head
            else None,
        )


def _read_text(
    config: SearchConfig, encoder: Encoder, watcher: Watcher[SearchPlan]
) -> tuple[Corpus, Blocks | StreamedText, dict[str, ProbeText]]:
    """Return the corpus, what to train on, and the blocks of every held-out text."""
    load = partial(load_corpus, tokenizer=encoder.tokenizer, text_column=config.text_column)
    watcher.status(f"reading corpus {' '.join(config.corpus)}")
    streamed = None
    if config.stream:
        streamed = StreamedText.open(
            config.corpus[0],
            encoder.tokenizer,
            config.sequence_length,
            text_column=config.text_column,
            has_held_out=bool(config.held_out),
        )
    # Of a stream so much is kept that a tenth of it is enough to evaluate on.
    enough = 10 * config.evaluation_blocks * config.sequence_length
    corpus = load(
        config.corpus,
        held_out=config.held_out or None,
        max_tokens=enough if streamed else None,
    )
    texts = {"losses": corpus}
    if config.check_corpus:
        watcher.status(f"reading check corpus {' '.join(config.check_corpus)}")
        texts["check_losses"] = check = load(config.check_corpus)
    noise = Noise.of(encoder.tokenizer) if config.terms.need_noise else None
    held_out = {
        name: ProbeText.cut(
            text.held_out,
            encoder,
            sequence_length=config.sequence_length,
            noise=noise,
            limit=config.evaluation_blocks,
            part=f"the held-out text of {text.name}",
            corpus=text.name,
        )
        for name, text in texts.items()
    }
    for line in dict.fromkeys(note for text in texts.values() for note in text.notes):
        watcher.note(line)
    if config.check_corpus and set(check.digests) & set(corpus.digests):
        seen = ", and all of it is trained on" if config.held_out else ""
        watcher.note(
            f"the check corpus {check.name} is text of the corpus itself{seen}: its losses tell of "
            "no second domain"
        )
    train = streamed or Blocks.of(
        corpus.train,
        config.sequence_length,
        encoder.tokenizer,
        name=f"the text of {corpus.name}",
    )
    return corpus, train, held_out
