"""The command line: its commands and options, and the boundary at which errors become one line.

Imports nothing heavy at the top, so that ``tamtctl --help`` answers at once.
"""

from __future__ import annotations

import os
import signal
import sys
import traceback
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Annotated, NoReturn, cast

import typer
from typer.main import get_command

from tamtctl.cli.commands.bench import bench
from tamtctl.cli.commands.cache import cache
from tamtctl.cli.commands.combine import combine
from tamtctl.cli.commands.compare import compare
from tamtctl.cli.commands.env import env
from tamtctl.cli.commands.evaluate import evaluate
from tamtctl.cli.commands.export import export
from tamtctl.cli.commands.finetune import finetune
from tamtctl.cli.commands.import_masks import import_masks
from tamtctl.cli.commands.inspect import inspect
from tamtctl.cli.commands.list_tickets import list_tickets
from tamtctl.cli.commands.pull import pull
from tamtctl.cli.commands.push import push
from tamtctl.cli.commands.recover import recover
from tamtctl.cli.commands.search import search
from tamtctl.cli.commands.unpack import unpack
from tamtctl.cli.help import Command, Group
from tamtctl.foundations import printable
from tamtctl.foundations.errors import TamtctlError, UsageError, explain
from tamtctl.foundations.launch import check_launch, world_size
from tamtctl.foundations.paths import check_working_directory
from tamtctl.foundations.signals import Answering, answer_by

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import FrameType

    from typer.core import TyperCommand


app = typer.Typer(
    name="tamtctl",
    cls=Group,
    help="Find, compare, fine-tune and share lottery tickets of pre-trained encoders.",
    epilog="Start with: tamtctl search --recipe nano --sparsity 0.8",
    context_settings={"help_option_names": ["-h", "--help"]},
    rich_markup_mode=None,  # help texts are text: [@revision] stays what it is
    pretty_exceptions_enable=False,
)

PARALLEL_COMMANDS = ("search", "finetune")  # what torchrun may start
LOOKING_COMMANDS = ("env", "list", "inspect")  # run in any folder, and in any kind of launch


def _shown_version(wanted: bool) -> None:
    if wanted:
        import importlib.metadata

        typer.echo(f"tamtctl {importlib.metadata.version('tamtctl')}")
        raise typer.Exit


@app.callback(invoke_without_command=True)
def root(
    context: typer.Context,
    version: Annotated[
        bool,
        typer.Option("--version", callback=_shown_version, is_eager=True, help="Show the version."),
    ] = False,
) -> None:
    """Find, compare, fine-tune and share lottery tickets of pre-trained encoders."""
    if context.invoked_subcommand is None:
        from tamtctl.cli.start import show_start

        show_start()
        return
    if context.invoked_subcommand in LOOKING_COMMANDS:
        return
    check_working_directory()
    check_launch()
    if world_size() > 1 and context.invoked_subcommand not in PARALLEL_COMMANDS:
        raise UsageError(
            f"{context.invoked_subcommand} runs in one process; start it without torchrun"
        )


_COMMANDS: dict[str, tuple[Callable[..., None], str]] = {
    "search": (
        search,
        "search --sparsity 0.8 --model bert-base-uncased \\\n"
        "      --corpus my-text.txt --objective kd",
    ),
    "compare": (compare, "compare --sparsity 0.5,0.7,0.9 --recipe nano"),
    "finetune": (finetune, "finetune sst2 --ticket nano-0.7 --limit 1000 --seeds 1,2,3"),
    "evaluate": (evaluate, "evaluate nano-0.8 --task mlm --corpus python-docs"),
    "bench": (bench, "bench sparse-nano --against nano"),
    "recover": (recover, "recover nano-0.9 --minutes 5"),
    "push": (push, "push runs/search-nano-0.8-tamt-mlm-1a2b3c4d/ticket me/nano"),
    "pull": (pull, "pull org/name --local-dir ticket"),
    "inspect": (inspect, "inspect nano-0.8 me/ticket --figure overlap.svg"),
    "combine": (combine, "combine nano-0.7 nano-0.8 nano-0.9 --op majority --sparsity 0.8"),
    "export": (export, "export nano-0.8 --output-dir sparse-nano"),
    "unpack": (unpack, "unpack sparse-nano.tar.zst --output-dir sparse-nano"),
    "import": (
        import_masks,
        "import mask.pt --model bert-base-uncased --output-dir ticket",
    ),
    "list": (list_tickets, "list --sort loss"),
    "cache": (cache, "cache clear statistics losses --dry-run"),
    "env": (env, "env > report.txt"),
}


def _made(name: str) -> TyperCommand:
    """Return a command as the parser knows it, with its options."""
    function, example = _COMMANDS[name]
    alone = typer.Typer(rich_markup_mode=None, add_completion=False)
    alone.command(name, cls=Command, epilog=f"Example:\n  tamtctl {example}")(function)
    return cast("TyperCommand", get_command(alone))


Group.makers.update({name: partial(_made, name) for name in _COMMANDS})


_INTERRUPTED, _TERMINATED = 128 + signal.SIGINT, 128 + signal.SIGTERM


@contextmanager
def _sigterm_raises() -> Iterator[None]:
    """Let SIGTERM unwind the stack like Ctrl-C, so that nothing is left half-written."""

    def terminate(number: int, frame: FrameType | None) -> NoReturn:
        raise SystemExit(_TERMINATED)

    previous = signal.signal(signal.SIGTERM, terminate)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous)


@contextmanager
def _all_processes() -> Iterator[None]:
    """Join the other processes if ``torchrun`` started several; only the first one prints."""
    if world_size() == 1 or _command() not in PARALLEL_COMMANDS:
        yield
        return
    check_launch()
    from tamtctl.foundations import distributed

    with distributed.joined() as world:
        if not world.is_first:
            sys.stdout = sys.stderr = open(os.devnull, "w")  # noqa: PTH123, SIM115, until it ends
        yield


def _command() -> str | None:
    """Return the command that is asked for, before the arguments are parsed."""
    return next((argument for argument in sys.argv[1:] if not argument.startswith("-")), None)


def main() -> None:
    """Run the command line; every error ends here as one line and an exit code."""
    is_one_of_many = "RANK" in os.environ
    if is_one_of_many and os.environ["RANK"] != "0":
        answer_by(lambda line: None)  # only the first process prints
    with _sigterm_raises(), Answering(are_repeated=is_one_of_many):
        sys.exit(_run())


def _run() -> int:
    try:
        with _all_processes():
            code: int = app(standalone_mode=False) or 0
            if code == _INTERRUPTED:  # the parser turns Ctrl-C into this code
                raise KeyboardInterrupt
        return code
    except TamtctlError as error:
        return _fail(str(error), error.exit_code)
    except typer.TyperException as error:  # a usage error of the parser
        return _fail(error.format_message(), 2)
    except (KeyboardInterrupt, typer.Abort):
        return _fail("interrupted", _INTERRUPTED)
    except SystemExit as ending:
        if ending.code == _TERMINATED:  # raised by our handler
            return _fail("terminated", _TERMINATED)
        raise  # click exits on a closed pipe (`tamtctl list | head`)
    except BrokenPipeError:
        sys.stdout = open(os.devnull, "w")  # noqa: PTH123, SIM115, its reader has gone
        return 1
    except BaseException as error:  # also what is no Exception, such as a panic in Rust code
        if line := explain(error):
            return _fail(line, 1)
        if not isinstance(error, Exception):
            raise
        kind = type(error).__name__
        return _fail(
            f"internal error ({kind}: {error}); please report it with --debug and tamtctl env", 1
        )


def _fail(message: str, code: int) -> int:
    if world_size() > 1 and not _speaks_for_all():
        return code
    if "--debug" in sys.argv:
        trace = map(printable.line, traceback.format_exc().splitlines())
        sys.stderr.write("\n".join(trace) + "\n")
    sys.stderr.write(f"error: {printable.line(' '.join(message.split()))}\n")
    return code


def _speaks_for_all() -> bool:
    """Return whether this process reports the error of all; if so, give it its stderr back."""
    distributed = sys.modules.get("tamtctl.foundations.distributed")
    if distributed is None or not distributed.is_joined():
        return os.environ.get("RANK") not in set(map(str, range(1, world_size())))
    speaks: bool = distributed.may_report()
    if speaks and sys.__stderr__:
        sys.stderr = sys.__stderr__
    return speaks


if __name__ == "__main__":
    main()
