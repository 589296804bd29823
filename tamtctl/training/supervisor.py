"""Supervising a training: resuming it, saving checkpoints on the way, and stopping on a signal."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any, Protocol

from tamtctl.foundations.distributed import world
from tamtctl.foundations.errors import DivergedError
from tamtctl.foundations.signals import DeferredSignals
from tamtctl.foundations.watching import StepReport, Watcher
from tamtctl.training.checkpoints import Checkpoints, State, Timetable
from tamtctl.training.loop import TrainingRun, every_tenth
from tamtctl.training.run_folder import RunFolder
from tamtctl.training.run_log import Logging, RunLog

Note = Callable[[str], None]


class Supervised(Protocol):
    """A training that a `Supervisor` can run.

    Its next step depends only on its state, its facts and the last report.
    """

    def run(
        self,
        report: Callable[[StepReport], bool | None],
        *,
        is_due: Callable[[int], bool],
        after: StepReport | None,
    ) -> TrainingRun:
        """Train to the end; the arguments are those of `tamtctl.training.loop.train`."""

    def is_due(self, step: int) -> bool:
        """Return whether the training itself wants a report after a step (from 1)."""

    def judged(self, report: StepReport) -> StepReport:
        """Return the report with the training's own additions; it may make it the last one."""

    def state_dict(self) -> State:
        """Return the tensors to save."""

    def facts(self) -> dict[str, Any]:
        """Return the plain JSON values to save."""

    def take_up(self, state: State, facts: Mapping[str, Any], report: StepReport) -> None:
        """Go on from a state and facts that were saved after a report."""


class Supervisor:
    """Runs a training to its end, through interruptions and in several processes.

    It acts only between two steps, and does not change the result of the training.

    Attributes:
        checkpoints: The checkpoints of the run.
    """

    def __init__(
        self, training: Supervised, checkpoints: Checkpoints, checkpoint_every: int | None
    ) -> None:
        """Supervise a training.

        Args:
            training: The training.
            checkpoints: The checkpoints to resume from and to write.
            checkpoint_every: Steps between two checkpoints; None: every five minutes.
        """
        self.checkpoints = checkpoints
        self._training = training
        self._timetable = Timetable(checkpoint_every)
        self._last: StepReport | None = None

    @property
    def step(self) -> int:
        """The step of the checkpoint that `resume` found; 0 if there was none."""
        return self._last.step if self._last else 0

    @property
    def seconds_per_step(self) -> float | None:
        """Seconds of a step before the interruption; None if there was none."""
        return self._last.seconds / self._last.step if self._last else None

    def resume(self, note: Note) -> None:
        """Go on from the last checkpoint, if there is one.

        Raises:
            TamtctlError: The checkpoint is of another format, or of other inputs.
        """
        checkpoint = world().on_first(lambda: self.checkpoints.newest(note))
        if checkpoint is None:
            return
        last = StepReport(**checkpoint.facts["report"])
        self._training.take_up(checkpoint.state, checkpoint.facts, last)
        self._last = last
        note(f"going on from step {last.step} of {last.steps}, saved in {checkpoint.path}")

    def follow(self, report: StepReport) -> None:
        """Go on after the last report of another run, whose state the training already has."""
        self._last = report

    def run_in(
        self,
        folder: RunFolder,
        log_to: str | None,
        check_loss: Callable[[StepReport], None],
        watcher: Watcher[Any],
    ) -> TrainingRun:
        """Train to the end and log the run; of several processes, only the first one logs.

        Args:
            folder: The run's folder, after its `start`.
            log_to: The logger besides ``metrics.jsonl``, if any.
            check_loss: Raises DivergedError if the training loss has exploded.
            watcher: Is told of every report, before a checkpoint is saved.

        Raises:
            DivergedError: The loss exploded, or is infinite or NaN; the message names the step and
                the last good checkpoint.
        """

        def progress(report: StepReport) -> None:
            watcher.progress(report)
            check_loss(report)

        try:
            if not world().is_first:
                return self.run(None, progress, watcher.note)
            logging = Logging(log_to, folder.name, folder.config)
            with RunLog(folder.path, self.step, logging, watcher.note) as log:
                return self.run(log, progress, watcher.note)
        except DivergedError as error:
            good = self.checkpoints.paths()
            last = f"the last good checkpoint is {good[-1]}" if good else "none was saved before"
            raise DivergedError(f"{error}; {last}") from error

    def run(
        self, log: RunLog | None, progress: Callable[[StepReport], None], note: Note
    ) -> TrainingRun:
        """Train to the end.

        A signal to stop takes effect once the current step is done and saved. Of several processes,
        the first one saves, and the others train until it stops.

        Args:
            log: Gets every report; None in all processes but the first.
            progress: Is called with every report, before a checkpoint is saved.
            note: Is given lines for people.
        """
        self._timetable.saved()
        is_first = world().is_first
        with DeferredSignals(are_repeated=world().size > 1, say=note) as signals:

            def is_due(step: int) -> bool:
                return (
                    every_tenth(step)
                    or self._training.is_due(step)
                    or (is_first and (self._timetable.is_due(step) or signals.number is not None))
                )

            def report(report: StepReport) -> bool:
                report = self._training.judged(report)
                if log:
                    log.write(report)
                progress(report)
                if not is_first:
                    return report.is_last
                is_asked_to_stop = signals.is_asked_to_stop()
                # The last step is saved, too, since the evaluation after the training may be
                # interrupted.
                if is_asked_to_stop or report.is_last or self._timetable.is_due(report.step):
                    self._save(report)
                if is_asked_to_stop:
                    note(f"step {report.step} is saved; the same command goes on from there")
                    signals.deliver()
                return report.is_last

            return self._training.run(report, is_due=is_due, after=self._last)

    def _save(self, report: StepReport) -> None:
        facts = {"report": asdict(report)} | self._training.facts()
        self.checkpoints.save(report.step, self._training.state_dict(), facts)
        self._timetable.saved()
