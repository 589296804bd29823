"""The function `finetune`: a finished run is returned, an interrupted one goes on."""

from __future__ import annotations

import hashlib
import itertools
import json
import shutil
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from tamtctl.foundations.distributed import world
from tamtctl.foundations.errors import DamagedRunError
from tamtctl.foundations.paths import expanded, folder_name
from tamtctl.foundations.signals import KEPT, promising
from tamtctl.foundations.watching import Silent, default_watcher
from tamtctl.foundations.working import watched
from tamtctl.pruning.searching.identity import finetune_identity
from tamtctl.tasks.finetuning.config import FinetuneConfig
from tamtctl.tasks.finetuning.known_runs import (
    beside_checkpoint,
)
from tamtctl.tasks.finetuning.preparing import Prepared
from tamtctl.tasks.finetuning.rate_search import Trials
from tamtctl.tasks.finetuning.result import FinetuneResult, FinetuneWatcher
from tamtctl.tasks.finetuning.run import run_all
from tamtctl.tasks.finetuning.run_examples import RunExamples
from tamtctl.tasks.finetuning.schedule import TaskSchedule, schedule_for
from tamtctl.tasks.finetuning.seed_folder import seed_folder
from tamtctl.tasks.finetuning.starting_point import StartingPoint, with_default_ticket
from tamtctl.tasks.labelled.opening import open_own_task, open_task
from tamtctl.tasks.labelled.records import TaskData
from tamtctl.tasks.registry import find_task
from tamtctl.tasks.run_facts import SEED_METRICS
from tamtctl.training.run_folder import CONFIG, RESULT, RUNS, RunFolder
from tamtctl.training.run_log import check_log_to


@watched(default_watcher)
def finetune(
    config: FinetuneConfig,
    *,
    output_dir: Path | str | None = None,
    force: bool = False,
    watcher: FinetuneWatcher | None = None,
) -> FinetuneResult:
    """Fine-tune a ticket or a dense model on a task, and measure it (TAMT, §4.1).

    An interrupted run goes on with the first seed that is not complete, from its last checkpoint.

    Args:
        config: What to fine-tune, and on what.
        output_dir: The run's folder; by default one under ``runs/``.
        force: Redo a finished run.
        watcher: Is told how it goes.

    Raises:
        TamtctlError: The request, the model, the ticket or the data is refused, or the loss became
            NaN.

    Example:
        >>> tuned = tamtctl.finetune(tuning)
        >>> tuned.metric, len(tuned.scores), tuned.labels
        ('accuracy', 1, '2 classes: file, list')
    """
    watcher = watcher or Silent()
    asked = AskedRun.of(config, output_dir, watcher)
    earlier_result = partial(_earlier_result, asked.run, force=force)
    if done := world().on_first(earlier_result):
        return done
    check_log_to(config.log_to)
    prepared = world().in_turn(lambda: asked.prepared(watcher))
    with ExitStack() as locks:
        world().on_first(lambda: locks.enter_context(asked.run.locked()))
        locks.enter_context(promising(KEPT))
        if done := world().on_first(earlier_result):  # finished meanwhile by another
            return done
        world().on_first(lambda: _start_run(asked.run, force=force))
        return run_all(prepared, watcher)


@dataclass(frozen=True)
class AskedRun:
    """A run that is asked for: what it starts from, its examples and its schedule."""

    config: FinetuneConfig
    start: StartingPoint
    data: TaskData
    read: RunExamples
    training: TaskSchedule
    run: RunFolder

    @classmethod
    def of(
        cls,
        config: FinetuneConfig,
        output_dir: Path | str | None = None,
        watcher: FinetuneWatcher | None = None,
    ) -> AskedRun:
        """Find the inputs of a run, and read its examples.

        Raises:
            TamtctlError: The request, the model, the ticket or the data is refused.
        """
        watcher = watcher or Silent()
        config, _ = with_default_ticket(config)
        start = world().in_turn(lambda: StartingPoint.of(config))
        watcher.status(f"finding the data of {config.task}")
        data = world().in_turn(lambda: open_data(config))
        watcher.status(f"reading {data.name}")
        read = world().in_turn(lambda: RunExamples.of(config, data))
        return cls._of(config, start, data, read, output_dir)

    @classmethod
    def _of(
        cls,
        config: FinetuneConfig,
        start: StartingPoint,
        data: TaskData,
        read: RunExamples,
        output_dir: Path | str | None,
    ) -> AskedRun:
        training = schedule_for(data.task, start.width, len(read.train), config.wishes)
        run = world().on_first(lambda: _run_folder(config, start, data, training, output_dir))
        return cls(config, start, data, read, training, run)

    def beside(self, config: FinetuneConfig) -> AskedRun:
        """Return the run of another ticket or model on the same examples, which are not read again.

        Raises:
            TamtctlError: The model or the ticket is refused.
        """
        return self._of(config, StartingPoint.of(config), self.data, self.read, None)

    @property
    def is_done(self) -> bool:
        """Whether `finetune` would find this run finished.

        Raises:
            DamagedRunError: Its folder has lost files.
        """
        return _earlier_result(self.run, force=False) is not None

    def training_seconds(self, watcher: FinetuneWatcher) -> float:
        """Return about how long `finetune` trains all seeds, and tries rates, from a few steps.

        Scoring the dev set comes on top of it.
        """
        prepared = self.prepared(watcher)
        steps = prepared.plan.steps * len(self.config.seeds)
        steps += prepared.trial_steps * len(prepared.plan.rates)
        return steps * prepared.seconds_per_step()

    def prepared(self, watcher: FinetuneWatcher) -> Prepared:
        """Load the model, and check that all fits."""
        return Prepared.prepare(
            self.config, self.start, self.data, self.read, self.training, self.run, watcher
        )


def _earlier_result(run: RunFolder, *, force: bool) -> FinetuneResult | None:
    """Return the result of a finished run of this configuration, None without its checkpoints."""
    values = run.finished(force=force)
    if values is None:
        return None
    try:
        done = FinetuneResult.from_dict(values)
    except (TypeError, KeyError, AttributeError) as error:  # of another version
        raise DamagedRunError(
            f"{str(run.path / RESULT)!r} is damaged; --force does the run again"
        ) from error
    folders = [seed_folder(run, seed) for seed in done.seeds]
    for folder in folders:
        if not (folder / SEED_METRICS).is_file():
            raise DamagedRunError(
                f"the finished run in {str(run.path)!r} has lost {str(folder)!r}; "
                "--force does it again"
            )
    found = replace(done, checkpoint=folders, run_folder=run.path, already_done=True)
    return replace(found, beside=beside_checkpoint(folders[0], found.metric, found.seeds))


def open_data(config: FinetuneConfig) -> TaskData:
    """Find the data of a run, without reading the examples yet.

    Raises:
        TaskError: A file is missing or cannot be read, or the Hub has no such dataset.
    """
    if config.train:
        return open_own_task(
            config.task,
            expanded(config.train),
            expanded(config.dev) if config.dev else None,
            text_columns=config.text_columns,
            label_column=config.label_column,
            kind=config.label_kind,
        )
    return open_task(find_task(config.task), Path(config.data_dir) if config.data_dir else None)


def _run_folder(
    config: FinetuneConfig,
    start: StartingPoint,
    data: TaskData,
    training: TaskSchedule,
    output_dir: Path | str | None,
) -> RunFolder:
    told = config.to_dict() | {"ticket_sha256": start.digest, "data_sha256": data.digest}
    text = json.dumps(told | training.identity, sort_keys=True)
    about = f"{config.task}-{folder_name(start.short_name)}"
    name = f"{about}-{hashlib.sha256(text.encode()).hexdigest()[:8]}"
    identity = finetune_identity(start.model, start.revision, config.ticket, data.identity)
    identity |= training.identity
    return RunFolder(expanded(output_dir or RUNS / f"finetune-{name}"), told, identity)


def _start_run(run: RunFolder, *, force: bool) -> None:
    """Create the run's folder; in that of an unfinished run, finished seeds are kept."""
    if force or not (run.path / CONFIG).exists():
        for seed in itertools.chain(run.path.glob("seed-*"), run.path.glob(".seed-*")):
            shutil.rmtree(seed)
        Trials.forget(run.path)
        run.start()
