"""The function `finetune`: a finished run is returned, an interrupted one goes on."""

from __future__ import annotations

import itertools
import shutil
from contextlib import ExitStack
from functools import partial
from pathlib import Path

from tamtctl.foundations.distributed import world
from tamtctl.foundations.signals import KEPT, promising
from tamtctl.foundations.watching import Silent, default_watcher
from tamtctl.foundations.working import watched
from tamtctl.tasks.finetuning.config import FinetuneConfig
from tamtctl.tasks.finetuning.preparing import Prepared
from tamtctl.tasks.finetuning.rate_search import Trials
from tamtctl.tasks.finetuning.requested_run import RequestedRun
from tamtctl.tasks.finetuning.result import FinetuneResult, FinetuneWatcher
from tamtctl.tasks.finetuning.run import run_all
from tamtctl.training.run_folder import CONFIG, RunFolder
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
    asked = RequestedRun.of(config, output_dir, watcher)
    earlier_result = partial(asked.earlier_result, force=force)
    if done := world().on_first(earlier_result):
        return done
    check_log_to(config.log_to)
    prepared = world().in_turn(lambda: Prepared.of(asked, watcher))
    with ExitStack() as locks:
        world().on_first(lambda: locks.enter_context(asked.run.locked()))
        locks.enter_context(promising(KEPT))
        if done := world().on_first(earlier_result):  # finished meanwhile by another
            return done
        world().on_first(lambda: _start_run(asked.run, force=force))
        return run_all(prepared, watcher)


def training_seconds(asked: RequestedRun, watcher: FinetuneWatcher) -> float:
    """Return about how long `finetune` trains all seeds, and tries rates, from a few steps.

    Scoring the dev set comes on top of it.
    """
    prepared = Prepared.of(asked, watcher)
    steps = prepared.plan.steps * len(asked.config.seeds)
    steps += prepared.trial_steps * len(prepared.plan.rates)
    return steps * prepared.seconds_per_step()


def _start_run(run: RunFolder, *, force: bool) -> None:
    """Create the run's folder; in that of an unfinished run, finished seeds are kept."""
    if force or not (run.path / CONFIG).exists():
        for seed in itertools.chain(run.path.glob("seed-*"), run.path.glob(".seed-*")):
            shutil.rmtree(seed)
        Trials.forget(run.path)
        run.start()
