"""Recovering a ticket: `recover` and `plan_recovery`."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path

from tamtctl.foundations.errors import UsageError
from tamtctl.foundations.paths import expanded, folder_name
from tamtctl.foundations.public_names import public
from tamtctl.foundations.signals import KEPT, promising
from tamtctl.foundations.watching import Silent, Watcher, default_watcher
from tamtctl.foundations.working import watched
from tamtctl.models.usual_rows import embeds_sentences
from tamtctl.pruning.objectives import headless, usual_for_sentences
from tamtctl.pruning.recovery.config import RecoverConfig
from tamtctl.pruning.recovery.result import RecoverPlan, RecoverResult
from tamtctl.pruning.recovery.run import PreparedRecovery, Recoverable, check_done
from tamtctl.pruning.searching.identity import model_identity, search_identity, ticket_identity
from tamtctl.ticket.finding import resolve_ticket
from tamtctl.ticket.texts import TextSource
from tamtctl.ticket.ticket import Ticket
from tamtctl.training.run_folder import RUNS, RunFolder
from tamtctl.training.run_log import check_log_to

_SEQUENCE_LENGTH = 128  # where neither the user nor the ticket says


@watched(default_watcher)
def recover(
    config: RecoverConfig,
    *,
    output_dir: Path | str | None = None,
    force: bool = False,
    watcher: Watcher[RecoverPlan] | None = None,
) -> RecoverResult:
    """Train the weights that a ticket keeps against the dense model, and write a checkpoint.

    The ticket does not change. The checkpoint has new weights under the ticket's mask, in the
    format that `tamtctl.export` writes. An interrupted recovery goes on from its last checkpoint,
    and on a CPU reaches bit for bit the same weights as an undisturbed one.

    Args:
        config: The configuration of the recovery.
        output_dir: The run's folder; by default one under ``runs/`` named after the configuration.
        force: Redo a finished run; start an interrupted one anew.
        watcher: Is told of the plan and the progress.

    Returns:
        The result; at once if the folder holds a finished run of this configuration.

    Raises:
        TamtctlError: Anything that stops the recovery; found before training if possible.

    Example:
        >>> recovered = tamtctl.recover(recovery)
        >>> sorted(recovered.losses)
        ['dense', 'recovered', 'ticket']
    """
    watcher = watcher or Silent()
    config, subject = _settled(config)
    run = _run_folder(config, subject, output_dir)

    def earlier_result() -> RecoverResult | None:
        return run.earlier_result(lambda values: check_done(run, values), force=force)

    if done := earlier_result():
        return done
    check_log_to(config.log_to)
    prepared = PreparedRecovery.prepare(config, subject, run, watcher)
    with ExitStack() as locks:
        locks.enter_context(run.locked())
        locks.enter_context(promising(KEPT))
        if done := earlier_result():  # while this process was loading
            return done
        if force:
            prepared.forget()
        prepared.supervisor.resume(watcher.note)
        watcher.plan(prepared.plan())
        return prepared.finish(prepared.train(watcher), watcher)


@watched(default_watcher)
def plan_recovery(
    config: RecoverConfig,
    *,
    output_dir: Path | str | None = None,
    watcher: Watcher[RecoverPlan] | None = None,
) -> RecoverPlan:
    """Return what `recover` would do, after the same checks; only caches are written."""
    watcher = watcher or Silent()
    config, subject = _settled(config)
    run = _run_folder(config, subject, output_dir)
    run.finished()
    check_log_to(config.log_to)
    return PreparedRecovery.prepare(config, subject, run, watcher).plan()


def _settled(config: RecoverConfig) -> tuple[RecoverConfig, Recoverable]:
    """Return the ticket and the configuration, with all that was left open filled in.

    The text is that of the ticket's search, and the objective suits the model.

    Raises:
        UsageError: Neither the configuration nor the ticket names a training text.
    """
    folder = resolve_ticket(config.ticket).path
    ticket = Ticket.load(folder)
    known = TextSource.of(ticket)
    if not config.corpus and not known.corpus:
        raise UsageError(
            f"ticket {config.ticket!r} does not say what text it was trained on; give --corpus"
        )
    model, revision = ticket.find_base(config.model)
    usual = usual_for_sentences() if embeds_sentences(model) else headless().name
    settled = config.filled_in(
        objective=config.objective or usual,
        corpus=config.corpus or known.corpus,
        held_out=config.held_out or (() if config.corpus else known.held_out),
        text_column=config.text_column or (None if config.corpus else known.text_column),
        rows=config.rows or known.rows,
        sequence_length=config.sequence_length or known.sequence_length or _SEQUENCE_LENGTH,
    )
    return settled, Recoverable(ticket, folder, model, revision)


def _run_folder(
    config: RecoverConfig, subject: Recoverable, output_dir: Path | str | None
) -> RunFolder:
    name = folder_name(public(config.ticket).replace("/", "-"))
    path = expanded(output_dir or RUNS / f"recover-{name}-{config.objective}-{config.hash}")
    identity = (
        search_identity(config.as_search(subject.model))
        | model_identity(subject.model, subject.revision)
        | ticket_identity(config.ticket)
    )
    return RunFolder(path, config.to_dict(), identity)
