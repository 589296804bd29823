"""Looking after a training: its log, its evaluations, its checkpoints, and when it has to stop."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, replace

import torch

from tamtctl.foundations.distributed import world
from tamtctl.foundations.errors import DivergedError
from tamtctl.foundations.signals import SAVING_SOON, DeferredSignals, promising
from tamtctl.foundations.watching import StepReport
from tamtctl.pruning.config import SearchConfig
from tamtctl.pruning.trained.mask_training import MaskTraining
from tamtctl.training.checkpoints import Checkpoints, Timetable
from tamtctl.training.loop import TrainingRun, every_tenth
from tamtctl.training.run_log import RunLog

_EXPLODED = 10.0  # times the first loss, if that was not below 1

Note = Callable[[str], None]


class Supervisor:
    """Lets a training run to its end, through interruptions and over several processes.

    Whatever it does happens between two steps and leaves no trace in what is trained.

    Attributes:
        checkpoints: Where it saves.
    """

    def __init__(
        self,
        config: SearchConfig,
        training: MaskTraining,
        checkpoints: Checkpoints,
        evaluate: Callable[[], dict[str, float]],
    ) -> None:
        """Look after a training.

        Args:
            config: How often to do what.
            training: What is trained, and saved.
            checkpoints: Where to.
            evaluate: Returns each term's held-out loss of what is trained, as it is now.
        """
        self._config, self._training = config, training
        self.checkpoints = checkpoints
        self._evaluate = evaluate
        self._last: StepReport | None = None
        self._first_loss: float | None = None
        self._best_loss: float | None = None
        self._since_best = 0  # evaluations
        self._timetable = Timetable(config.checkpoint_every)

    @property
    def step(self) -> int:
        """Steps that `resume` found done and saved."""
        return self._last.step if self._last else 0

    @property
    def stopped_early(self) -> bool:
        """Whether patience has ended the training."""
        patience = self._config.patience
        return patience is not None and self._since_best >= patience

    def resume(self, note: Note) -> None:
        """Go on from the last checkpoint, if there is one.

        Raises:
            TamtctlError: There is one, but not of this model and this text.
        """
        checkpoint = world().on_first(lambda: self.checkpoints.newest(note))
        if checkpoint is None:
            return
        self._training.load_state_dict(checkpoint.state)
        facts = checkpoint.facts
        self._last = StepReport(**facts["report"])
        self._first_loss, self._best_loss = facts["first_loss"], facts["best_loss"]
        self._since_best = facts["since_best"]
        note(f"going on from step {self.step} of {self._last.steps}, saved in {checkpoint.path}")

    def follow(self, step: int, seconds: float, tokens_per_second: float) -> None:
        """Go on after the last step of another run, which the training has been set to."""
        self._last = StepReport(
            step=step,
            steps=self._config.steps,
            terms={},
            learning_rate=0.0,
            flips=self._training.flips(),
            tokens_per_second=tokens_per_second,
            seconds=seconds,
            is_last=False,
        )

    def run(
        self, log: RunLog | None, progress: Callable[[StepReport], None], note: Note
    ) -> TrainingRun:
        """Train to the end.

        A signal to stop is obeyed after the step that is under way, once that is saved. Of several
        processes the first one evaluates and saves; the others train until it stops.

        Args:
            log: Takes every report.
            progress: Is told every report.
            note: Is told a line of what a person should know.

        Raises:
            DivergedError: The loss exploded or is no number; the message names the step and the
                last good checkpoint.
        """
        self._timetable.saved()
        is_first = world().is_first
        with DeferredSignals(are_repeated=world().size > 1, say=note) as signals:

            def is_due(step: int) -> bool:
                return (
                    every_tenth(step)
                    or self._evaluation_is_due(step)
                    or (is_first and (self._timetable.is_due(step) or signals.number is not None))
                )

            def report(report: StepReport) -> bool:
                if self._evaluation_is_due(report.step):
                    report = self._evaluated(report)
                if log:
                    log.write(report)
                progress(report)
                self._check_loss(report)
                if not is_first:
                    return report.is_last
                is_asked_to_stop = signals.number is not None
                if is_asked_to_stop or report.is_last or self._timetable.is_due(report.step):
                    self._save(report)
                if is_asked_to_stop:
                    note(f"step {report.step} is saved; the same command goes on from there")
                    signals.deliver()
                return report.is_last

            try:
                return self._training.run(report, is_due=is_due, after=self._last)
            except DivergedError as error:
                good = self.checkpoints.paths()
                last = (
                    f"the last good checkpoint is {good[-1]}" if good else "none was saved before"
                )
                raise DivergedError(f"{error}; {last}") from error

    def _evaluation_is_due(self, step: int) -> bool:
        every = self._config.eval_every
        return step in self._config.eval_steps or (every is not None and step % every == 0)

    def _evaluated(self, report: StepReport) -> StepReport:
        with promising(SAVING_SOON):
            losses = world().on_first(self._evaluate)
        loss = sum(losses.values())
        if self._best_loss is None or loss < self._best_loss:
            self._best_loss, self._since_best = loss, 0
        elif not report.is_last:  # then it ends in any case
            self._since_best += 1
        return replace(report, eval_losses=losses, is_last=report.is_last or self.stopped_early)

    def _check_loss(self, report: StepReport) -> None:
        if self._first_loss is None:
            self._first_loss = report.loss
        if report.loss > _EXPLODED * max(self._first_loss, 1.0):
            raise DivergedError(
                f"the loss exploded: {report.loss:.3g} at step {report.step}, "
                f"{self._first_loss:.3g} at first; try a lower --learning-rate"
            )

    def _save(self, report: StepReport) -> None:
        state = self._training.state_dict()
        tensors = (tensor for part in state.values() for tensor in part.values())
        if not all(bool(torch.isfinite(tensor).all()) for tensor in tensors):
            raise DivergedError(
                f"the scores are no longer numbers after step {report.step}; "
                "try a lower --learning-rate, or --precision fp32"
            )
        facts = {
            "report": asdict(report),
            "first_loss": self._first_loss,
            "best_loss": self._best_loss,
            "since_best": self._since_best,
        }
        self.checkpoints.save(report.step, state, facts)
        self._timetable.saved()
