"""Searching for a ticket: planning a search, doing or deriving it, and finding a finished one."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from tamtctl.foundations.devices import Compute
from tamtctl.foundations.distributed import world
from tamtctl.foundations.errors import (
    DamagedRunError,
    TamtctlError,
    UsageError,
)
from tamtctl.foundations.paths import expanded, folder_name
from tamtctl.foundations.signals import KEPT, promising
from tamtctl.foundations.watching import Silent, Watcher, default_watcher
from tamtctl.foundations.working import watched
from tamtctl.models.usual_rows import usual_rows
from tamtctl.pruning.config import SearchConfig
from tamtctl.pruning.criteria import JOINED_BY
from tamtctl.pruning.derived import derived_config
from tamtctl.pruning.latency.measuring import structures_for_latency
from tamtctl.pruning.latency.record import FoundLatency
from tamtctl.pruning.methods import IMP, TAMT
from tamtctl.pruning.patterns.of_model import pattern_of_model
from tamtctl.pruning.searching.identity import search_identity
from tamtctl.pruning.searching.result import SearchPlan, SearchResult
from tamtctl.pruning.searching.run import PreparedSearch
from tamtctl.pruning.sparsities import cut_sparsities
from tamtctl.ticket.format.patterns import short_noun
from tamtctl.ticket.ticket import Ticket
from tamtctl.training.run_folder import RUNS, SCORES, RunFolder
from tamtctl.training.run_log import check_log_to


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

    An interrupted search goes on from its last checkpoint, whatever interrupted it.

    Args:
        config: The configuration of the search.
        output_dir: The run's folder; by default one under ``runs/`` named after the configuration.
        force: Redo a finished run; start an interrupted one anew.
        after: A finished search by ``imp`` at a lower sparsity to go on from, with otherwise the
            same configuration. The result is the same as from the start. See `can_follow`.
        watcher: Is told of the plan and the progress.

    Returns:
        The result; at once if the folder holds a finished run of this configuration.

    Raises:
        TamtctlError: Anything that stops the search; found before training if possible.

    Example:
        >>> config = tamtctl.SearchConfig.from_recipe(
        ...     "fast", model="my-model", corpus="my-text.txt", sparsity=0.5,
        ...     steps=3, sequence_length=16, keep_scores=True,
        ... )
        >>> result = tamtctl.search(config)
        >>> sorted(result.losses)
        ['dense', 'magnitude', 'random', 'start', 'ticket']
    """
    watcher = watcher or Silent()
    config = _settled(config, watcher.note)
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
    prepared = _prepared(config, run, watcher, force=force)
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
    """Return whether a search can go on from an earlier one, see `search`.

    Only iterative magnitude pruning with rewinding can: one cut hands nothing but masks to the
    next.
    """
    return (
        config.method == IMP
        and config.rewind == "weights"
        and earlier.sparsity in cut_sparsities(config.settled_sparsity)[:-1]
        and replace(config, sparsity=earlier.sparsity, steps=earlier.steps) == earlier
    )


@watched(default_watcher)
def plan_search(
    config: SearchConfig,
    *,
    output_dir: Path | str | None = None,
    watcher: Watcher[SearchPlan] | None = None,
) -> SearchPlan:
    """Return what `search` would do, after the same checks; nothing is written but caches.

    Args:
        config: The configuration of the search.
        output_dir: The run's folder, as for `search`.
        watcher: Is told of the progress.

    Raises:
        TamtctlError: Anything that would stop `search` before training.

    Example:
        >>> plan = tamtctl.plan_search(config)
        >>> plan.steps, plan.matrices, plan.train_sequences.rows
        (3, 13, 'blocks')
    """
    watcher = watcher or Silent()
    config = _settled(config, watcher.note)
    run = world().on_first(lambda: _run_folder(config, output_dir))
    world().on_first(run.finished)
    check_log_to(config.log_to)
    return _prepared(config, run, watcher).plan()


@watched(default_watcher)
def derive(
    from_scores: Path | str,
    sparsity: float,
    *,
    precision: str | None = None,
    device: str | None = None,
    threads: int | None = None,
    output_dir: Path | str | None = None,
    force: bool = False,
    watcher: Watcher[SearchPlan] | None = None,
) -> SearchResult:
    """Make a ticket of another sparsity from the kept scores of a search, without training.

    Args:
        from_scores: The run folder of a search by mask training with ``keep_scores``.
        sparsity: Share of zeros of the derived ticket, in [0, 1).
        precision: ``auto``, ``fp32`` or ``bf16``; by default as in the search.
        device: ``auto``, ``cpu`` or ``cuda``; by default as in the search.
        threads: CPU threads; by default as in the search.
        output_dir: The run's folder, as for `search`.
        force: Redo a finished run.
        watcher: Is told of the progress.

    Raises:
        UsageError: There is no such search, or it kept no scores.
        TamtctlError: The model or the text are no longer what they were.

    Example:
        >>> tamtctl.derive(result.run_folder, sparsity=0.75).target_sparsity
        0.75
    """
    changes = {"precision": precision, "device": device, "threads": threads}
    config = derived_config(from_scores, sparsity, **changes)
    return search(config, output_dir=output_dir, force=force, watcher=watcher)


def search_folder(config: SearchConfig) -> Path:
    """Return the default run folder of a search."""
    return _run_path(_settled(config), None)


def find_search(config: SearchConfig) -> SearchResult | None:
    """Return the result of a finished search of this configuration; None if there is none.

    Raises:
        DamagedRunError: Its folder holds something else, or only a part of it.
        ChangedInputsError: Its model, text or tickets have changed since.
    """
    run = _run_folder(_settled(config), None)
    try:
        return _earlier_result(run, force=False)
    except UsageError as error:
        raise DamagedRunError(
            f"the run folder {str(run.path)!r} holds no run of its own configuration; "
            "--force rebuilds it"
        ) from error


def default_recipe(device: str, model: str | None) -> tuple[str, str]:
    """Return the default recipe, and the reason for it, which the command prints first.

    Args:
        device: ``auto``, ``cpu`` or ``cuda``.
        model: The model that was asked for; None if none was.
    """
    if Compute.choose(device, "fp32").device.type == "cuda":
        return "paper", "a CUDA GPU is present; --recipe nano takes a minute"
    if model not in (None, "nano"):
        return "fast", "no CUDA GPU is used; --recipe paper is the paper's, for GPUs"
    return "nano", "no CUDA GPU is used; --recipe paper is the paper's, for GPUs"


def _earlier_result(run: RunFolder, *, force: bool) -> SearchResult | None:
    """Return the result of a finished run of this configuration; None if there is none."""

    def read(values: dict[str, Any]) -> SearchResult:
        Ticket.load(run.ticket)
        return SearchResult.from_dict(values, run)

    return run.earlier_result(read, force=force)


def _prepared(
    config: SearchConfig, run: RunFolder, watcher: Watcher[SearchPlan], *, force: bool = False
) -> PreparedSearch:
    """Prepare a search; if it asks for a latency, measure first which sparsity reaches it."""
    if config.latency is None:
        return PreparedSearch.prepare(config, run, watcher)
    kept = world().on_first(lambda: None if force else FoundLatency.read(run.path))
    if kept is None:
        noun = short_noun(config.pattern)
        watcher.status(f"measuring how many {noun} take {config.latency:g} × the dense latency")
        size, target, backend = config.latency_size, config.latency, config.settled_backend
        kept = world().on_first(
            lambda: structures_for_latency(config.model, config.pattern, target, size, backend)
        )
    settled = config.filled_in(sparsity=kept.sparsity)
    return PreparedSearch.prepare(settled, run, watcher, latency=kept)


def _settled(config: SearchConfig, note: Callable[[str], None] = lambda _: None) -> SearchConfig:
    """Return the configuration with its unit of text and its pattern filled in, by the model."""
    return config.filled_in(
        rows=config.rows or world().on_first(lambda: usual_rows(config.model, note=note)),
        pattern=world().on_first(lambda: pattern_of_model(config.pattern, config.model)),
    )


def _run_folder(config: SearchConfig, output_dir: Path | str | None) -> RunFolder:
    path = _run_path(config, output_dir)
    return RunFolder(path, config.to_dict(), search_identity(config))


def _run_path(config: SearchConfig, output_dir: Path | str | None) -> Path:
    method = config.method.replace(JOINED_BY, "+")  # "*" is a wildcard in a shell
    asked = f"{config.sparsity:g}" if config.latency is None else f"latency-{config.latency:g}"
    short = f"{folder_name(Path(config.model).name)}-{asked}-{method}"
    if config.method == TAMT:
        short += f"-{config.objective}"
    return expanded(output_dir or RUNS / f"search-{short}-{config.hash}")
