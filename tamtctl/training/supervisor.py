"""Looking after a training: it is taken up where it was left, saved on its way, and stopped."""

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
    """A training that can be looked after.

    Its state, its facts and the last report are all that its next step depends on.
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
        """Tell whether the training itself has something to report after a step (from 1)."""

    def judged(self, report: StepReport) -> StepReport:
        """Return a report with what the training makes of it: it may be the last one."""

    def state_dict(self) -> State:
        """Return the tensors to save."""

    def facts(self) -> dict[str, Any]:
        """Return the plain JSON values to save."""

    def take_up(self, state: State, facts: Mapping[str, Any], report: StepReport) -> None:
        """Go on from what was saved after a report."""


class Supervisor:
    """Lets a training run to its end, through interruptions and over several processes.

    Whatever it does happens between two steps and leaves no trace in what is trained.

    Attributes:
        checkpoints: Where it saves.
    """

    def __init__(
        self, training: Supervised, checkpoints: Checkpoints, checkpoint_every: int | None
    ) -> None:
        """Look after a training.

        Args:
            training: What is trained, and saved.
            checkpoints: Where to.
            checkpoint_every: Steps between two checkpoints; None: five minutes.
        """
        self.checkpoints = checkpoints
        self._training = training
        self._timetable = Timetable(checkpoint_every)
        self._last: StepReport | None = None

    @property
    def step(self) -> int:
        """Steps that `resume` found done and saved."""
        return self._last.step if self._last else 0

    def resume(self, note: Note) -> None:
        """Go on from the last checkpoint, if there is one.

        Raises:
            TamtctlError: There is one, but not of this model and this text.
        """
        checkpoint = world().on_first(lambda: self.checkpoints.newest(note))
        if checkpoint is None:
            return
        last = StepReport(**checkpoint.facts["report"])
        self._training.take_up(checkpoint.state, checkpoint.facts, last)
        self._last = last
        note(f"going on from step {last.step} of {last.steps}, saved in {checkpoint.path}")

    def follow(self, report: StepReport) -> None:
        """Go on after the last report of another run, which the training has been set to."""
        self._last = report

    def run_in(
        self,
        folder: RunFolder,
        log_to: str | None,
        check_loss: Callable[[StepReport], None],
        watcher: Watcher[Any],
    ) -> TrainingRun:
        """Train to the end, as the whole of a run; of several processes the first keeps the log.

        Args:
            folder: The run's, which has been started.
            log_to: Where else it is logged.
            check_loss: Raises DivergedError if the training loss has exploded.
            watcher: Is told every report, before anything is saved.

        Raises:
            DivergedError: The loss exploded or is no number; the message names the step and the
                last good checkpoint.
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

        A signal to stop is obeyed after the step that is under way, once that is saved. Of several
        processes the first one saves; the others train until it stops.

        Args:
            log: Takes every report.
            progress: Is told every report, before anything is saved.
            note: Is told a line of what a person should know.
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
                is_asked_to_stop = signals.number is not None
                # What is finished is saved, too: what follows the training may be interrupted.
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
