"""The work of a recovery: load, prune, train what is left, measure, and write a checkpoint."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tamtctl.data.corpus import Corpus
from tamtctl.data.sequences import Blocks, Rows
from tamtctl.foundations.devices import Compute
from tamtctl.foundations.errors import TamtctlError
from tamtctl.foundations.measured_text import MeasuredText
from tamtctl.foundations.plain_files import read_regular
from tamtctl.foundations.watching import Watcher
from tamtctl.models.encoder import Encoder, check_length
from tamtctl.models.loading import load_encoder
from tamtctl.pruning.config import SearchConfig
from tamtctl.pruning.objectives.held_out_loss import total_error, total_loss
from tamtctl.pruning.recovery.config import RecoverConfig
from tamtctl.pruning.recovery.record import RECOVERY_FILE, record_of
from tamtctl.pruning.recovery.result import (
    CANDIDATES,
    DENSE,
    RECOVERED,
    TICKET,
    RecoverPlan,
    RecoverResult,
)
from tamtctl.pruning.recovery.training import SurvivorTraining, lost_zeros
from tamtctl.pruning.searching.mask_probe import MaskProbe, ProbeText
from tamtctl.pruning.searching.reading import read_text
from tamtctl.ticket.exporting.checkpoint import write_checkpoint
from tamtctl.ticket.format.patterns import is_sliced
from tamtctl.ticket.slicing import size_to_set
from tamtctl.ticket.ticket import Ticket
from tamtctl.training.checkpoints import Checkpoints
from tamtctl.training.loop import TrainingRun
from tamtctl.training.run_folder import CHECKPOINTS, RECOVERED_MODEL, RunFolder, write_json
from tamtctl.training.supervisor import Supervisor

STEPS_FILE = "steps.json"  # keeps the number of steps of an unfinished run, once it is settled
_MOST_BYTES = 2**10


@dataclass(frozen=True)
class Recoverable:
    """A ticket that is recovered, and where it and its base model are stored."""

    ticket: Ticket
    folder: Path
    model: str
    revision: str | None


@dataclass(frozen=True, kw_only=True)
class PreparedRecovery:
    """Everything a recovery needs, loaded and checked; the model holds the ticket's zeros."""

    config: RecoverConfig
    subject: Recoverable
    run: RunFolder
    search: SearchConfig
    compute: Compute
    encoder: Encoder
    masks: Mapping[str, Tensor]
    corpus: Corpus
    text: Blocks | Rows
    held_out: dict[str, ProbeText]  # field of `RecoverResult` that gets the losses → text
    training: SurvivorTraining
    supervisor: Supervisor

    @classmethod
    def prepare(
        cls,
        config: RecoverConfig,
        subject: Recoverable,
        run: RunFolder,
        watcher: Watcher[RecoverPlan],
    ) -> PreparedRecovery:
        """Load model, ticket and text, and check that they fit each other."""
        search = config.as_search(subject.model, config.steps or 1)
        compute = Compute.choose(config.device, config.precision, config.threads)
        watcher.status(f"loading model {subject.model}")
        encoder = load_encoder(
            subject.model, with_head=search.terms.need_head, revision=subject.revision
        )
        check_length(search.sequence_length, encoder.model, what="--sequence-length")
        masks = subject.ticket.full_masks(
            encoder.weights, model=encoder.id, remedy="give the ticket's own --model"
        )
        corpus, text, held_out = read_text(search, encoder, watcher)
        assert isinstance(text, Blocks | Rows)  # nothing is streamed
        compute.place(encoder.model)
        inputs, are_neurons = dict(run.identity), is_sliced(subject.ticket.pattern)
        if are_neurons:
            size_to_set(encoder.model.config, masks)  # raises if there can be no such checkpoint
            inputs["shape of the trained model"] = "without neurons"
        training = SurvivorTraining(search, compute, encoder, text, masks, are_neurons=are_neurons)
        checkpoints = Checkpoints(run.path / CHECKPOINTS, inputs, compute.circumstances)
        return cls(
            config=config,
            subject=subject,
            run=run,
            search=search,
            compute=compute,
            encoder=encoder,
            masks=masks,
            corpus=corpus,
            text=text,
            held_out=held_out,
            training=training,
            supervisor=Supervisor(training, checkpoints, config.checkpoint_every),
        )

    def plan(self) -> RecoverPlan:
        """Settle how many steps there are, and describe what `train` will do."""
        training, done = self.training, self.supervisor.step
        budget = (self.config.minutes or math.inf) * 60
        seconds = training.seconds_per_step(budget) if not 0 < training.count <= done else 0.0
        if self.config.minutes is not None and not done:
            promised = self._promised_steps()
            training.count = promised or max(1, math.floor(budget / seconds))
        return RecoverPlan(
            config=self.config,
            run_folder=self.run.path,
            base_model=self.subject.model,
            sparsity=self.subject.ticket.sparsity,
            trained=self.training.trained_weights,
            device=self.compute.device.type,
            precision=self.compute.precision,
            threads=torch.get_num_threads(),
            train_sequences=self.text.facts(self.corpus.rows, self.corpus.train_unknown),
            held_out_sequences=self.held_out["losses"].facts,
            steps=training.count,
            resumed_from=done,
            estimated_seconds=(training.count - done) * seconds,
        )

    def _promised_steps(self) -> int | None:
        """Return the steps that a killed attempt had settled on before its first checkpoint.

        The run's folder is known to belong to the same configuration.
        """
        try:
            steps = json.loads(read_regular(self.run.path / STEPS_FILE, _MOST_BYTES))["steps"]
        except (OSError, ValueError, KeyError, TypeError, RecursionError):
            return None
        return steps if type(steps) is int and steps > 0 else None

    def forget(self) -> None:
        """Remove what an earlier attempt left: checkpoints and the number of steps."""
        self.supervisor.checkpoints.remove()
        (self.run.path / STEPS_FILE).unlink(missing_ok=True)

    def train(self, watcher: Watcher[RecoverPlan]) -> TrainingRun:
        """Train the weights that are left.

        Raises:
            DivergedError: The loss exploded, or is infinite or NaN; the message names the step and
                the last good checkpoint.
        """
        self.run.start(after_step=self.supervisor.step)
        write_json(self.run.path / STEPS_FILE, {"steps": self.training.count})
        shutil.rmtree(self.run.path / RECOVERED_MODEL, ignore_errors=True)
        return self.supervisor.run_in(
            self.run, self.config.log_to, self.training.check_loss, watcher
        )

    def finish(self, done: TrainingRun, watcher: Watcher[RecoverPlan]) -> RecoverResult:
        """Measure, write the checkpoint, and mark the run as finished."""
        watcher.status("evaluating on held-out text")
        losses, errors, weights = self._measured()
        if lost := lost_zeros(weights, self.masks):
            raise TamtctlError(f"{lost:,} pruned weights are not zero after training")
        watcher.status("writing the checkpoint")
        folder, subject = self.run.path / RECOVERED_MODEL, self.subject
        written = write_checkpoint(subject.folder, folder, model=self.config.model, weights=weights)
        text: MeasuredText = self.held_out["losses"].scored(self.corpus.held_out_name)
        result = RecoverResult(
            model=folder,
            run_folder=self.run.path,
            ticket=self.config.ticket,
            base_model=subject.model,
            objective=self.search.objective,
            sparsity=subject.ticket.sparsity,
            zeros=written.zeros,
            steps=done.steps,
            seconds=done.seconds,
            tokens_per_second=done.tokens_per_second,
            losses=losses["losses"],
            standard_errors=errors,
            check_losses=losses.get("check_losses", {}),
            unit=self.search.terms.unit,
            sequences=text.sequences,
            sequence_length=self.search.sequence_length,
            rows=text.rows,
            held_out={"name": text.name, "sequences": text.of},
            load=written.load,
            bytes=written.bytes,
            resumed_from=self.supervisor.step,
        )
        measured = {n: v for n, v in result.to_dict().items() if n in _MEASURED}
        record = record_of(
            self.config, subject.ticket, subject.folder, self.corpus.digests, measured
        )
        write_json(folder / RECOVERY_FILE, record)
        self.run.finish(result.to_dict())
        self.forget()
        return result

    def _measured(
        self,
    ) -> tuple[dict[str, dict[str, float]], dict[str, float | None], dict[str, Tensor]]:
        """Measure the recovered model, the ticket and the dense model, with the pre-trained head.

        Returns:
            Three mappings: field of `RecoverResult` → candidate → loss; candidate → standard error
            of ``losses``; name → trained weight, on the CPU.
        """
        training = self.training
        frozen = {name: training.dense[name] for name in self.encoder.matrices}
        probe = MaskProbe(self.encoder, frozen, (training.steps.objective,), self.compute)
        found = {n: {RECOVERED: probe.losses_as_folded(text)} for n, text in self.held_out.items()}
        weights = training.put_dense()
        for name, text in self.held_out.items():
            dense = probe.losses(text, None)
            distances = {term.name for term in self.search.terms if term.is_distance}
            found[name][DENSE] = {  # the dense model's distance to itself: 0 but for rounding
                term: loss.of_nothing() if term in distances else loss
                for term, loss in dense.items()
            }
            found[name][TICKET] = probe.losses(text, training.masks)
        losses = {
            name: {who: total_loss(of[who].values()) for who in CANDIDATES}
            for name, of in found.items()
        }
        errors = {who: total_error(of.values()) for who, of in found["losses"].items()}
        return losses, errors, weights


_MEASURED = (
    "objective", "zeros", "steps", "seconds", "losses", "standard_errors", "check_losses", "unit",
    "sequences", "sequence_length",
)  # fmt: skip


def check_done(run: RunFolder, values: Mapping[str, Any]) -> RecoverResult:
    """Return the result of a finished run, after checking that its checkpoint is still there.

    Raises:
        TypeError: The fields of the result are those of another version.
        OSError: The checkpoint lacks a file.
    """
    folder = run.path / RECOVERED_MODEL
    for name in ("config.json", RECOVERY_FILE):
        (folder / name).stat()
    if not list(folder.glob("*.safetensors")):
        raise FileNotFoundError(f"{folder} holds no weights")
    return RecoverResult.from_dict(values, run, folder)
