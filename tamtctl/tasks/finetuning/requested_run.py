"""A fine-tuning run that is asked for: what it starts from, its examples and its folder."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tamtctl.foundations.distributed import world
from tamtctl.foundations.paths import expanded, folder_name
from tamtctl.foundations.watching import Silent
from tamtctl.pruning.searching.identity import code_identity, finetune_identity
from tamtctl.tasks.finetuning.config import FinetuneConfig
from tamtctl.tasks.finetuning.known_runs import beside_checkpoint
from tamtctl.tasks.finetuning.result import FinetuneResult, FinetuneWatcher
from tamtctl.tasks.finetuning.run_examples import RunExamples
from tamtctl.tasks.finetuning.schedule import TaskSchedule, schedule_for
from tamtctl.tasks.finetuning.seed_folder import seed_folder
from tamtctl.tasks.finetuning.starting_point import StartingPoint, with_default_ticket
from tamtctl.tasks.kinds.table import KINDS
from tamtctl.tasks.labelled.opening import open_own_task, open_task
from tamtctl.tasks.labelled.records import TaskData
from tamtctl.tasks.registry import find_task
from tamtctl.tasks.run_facts import SEED_METRICS
from tamtctl.training.run_folder import RUNS, RunFolder


@dataclass(frozen=True)
class RequestedRun:
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
    ) -> RequestedRun:
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
    ) -> RequestedRun:
        training = schedule_for(data.task, start.width, len(read.train), config.wishes)
        run = world().on_first(lambda: _run_folder(config, start, data, training, output_dir))
        return cls(config, start, data, read, training, run)

    def beside(self, config: FinetuneConfig) -> RequestedRun:
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
        return self.earlier_result(force=False) is not None

    def earlier_result(self, *, force: bool) -> FinetuneResult | None:
        """Return the result of this run if it is finished and has its checkpoints.

        Raises:
            DamagedRunError: Its folder has lost files.
        """
        done = self.run.earlier_result(self._finished, force=force)
        if done is None:
            return None
        return replace(done, beside=beside_checkpoint(done.checkpoint[0], done.metric, done.seeds))

    def _finished(self, values: dict[str, Any]) -> FinetuneResult:
        done = FinetuneResult.from_dict(values)
        folders = [seed_folder(self.run, seed) for seed in done.seeds]
        for folder in folders:
            if not (folder / SEED_METRICS).is_file():
                raise FileNotFoundError(f"it has lost {str(folder)!r}")
        return replace(done, checkpoint=folders, run_folder=self.run.path, already_done=True)


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
    identity |= training.identity | code_identity("kind of task", [KINDS[data.task.kind]])
    return RunFolder(expanded(output_dir or RUNS / f"finetune-{name}"), told, identity)
