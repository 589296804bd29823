"""The command line: its commands and options, and the boundary at which errors become one line.

Imports nothing heavy at the top, so that ``tamtctl --help`` answers at once.
"""

from __future__ import annotations

import os
import signal
import sys
import traceback
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from tamtctl.config import DEVICES, METHODS, OBJECTIVES, PRECISIONS, RECIPES, SearchConfig
from tamtctl.errors import TamtctlError, explain

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import FrameType

    from tamtctl.console import Output

app = typer.Typer(
    name="tamtctl",
    help="Find, compare, fine-tune and share lottery tickets of pre-trained encoders.",
    epilog="Start with: tamtctl search --sparsity 0.8",
    context_settings={"help_option_names": ["-h", "--help"]},
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

JsonOption = Annotated[
    bool, typer.Option("--json", help="Print one JSON object on stdout, all else on stderr.")
]
QuietOption = Annotated[bool, typer.Option("-q", "--quiet", help="Print only the essential line.")]
DebugOption = Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")]
DeviceOption = Annotated[str, typer.Option(help=f"One of {', '.join(DEVICES)}.")]
ThreadsOption = Annotated[int | None, typer.Option(help="CPU threads.", min=1)]
SeedOption = Annotated[int, typer.Option(help="Of noise, order, random masks and dropout.")]


def _shown_version(wanted: bool) -> None:
    if wanted:
        import importlib.metadata

        typer.echo(f"tamtctl {importlib.metadata.version('tamtctl')}")
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_shown_version, is_eager=True, help="Show the version."),
    ] = False,
) -> None:
    """Find, compare, fine-tune and share lottery tickets of pre-trained encoders."""


@app.command(
    epilog="Example: tamtctl search --sparsity 0.8 --model bert-base-uncased "
    "--corpus my-text.txt --objective kd"
)
def search(
    sparsity: Annotated[
        float | None, typer.Option(help="Share of zeros in every matrix, in [0, 1).")
    ] = None,
    model: Annotated[str | None, typer.Option(help="Hub id, folder, or nano.")] = None,
    corpus: Annotated[
        list[str] | None,
        typer.Option(
            help="Text to train on: python-docs, a file (txt, gz, xz, jsonl, parquet), a folder, "
            "or a Hub dataset id[:config]. May be given several times."
        ),
    ] = None,
    held_out: Annotated[
        list[str] | None,
        typer.Option(help="Text to evaluate on; by default a stable tenth of the corpus."),
    ] = None,
    check_corpus: Annotated[
        list[str] | None,
        typer.Option(help="Evaluate on the held-out tenth of a second domain besides."),
    ] = None,
    text_column: Annotated[
        str | None, typer.Option(help="Column of the text in jsonl, parquet and datasets.")
    ] = None,
    method: Annotated[str | None, typer.Option(help=f"One of {', '.join(METHODS)}.")] = None,
    objective: Annotated[str | None, typer.Option(help=f"One of {', '.join(OBJECTIVES)}.")] = None,
    init: Annotated[
        str | None, typer.Option(help="Initial mask: magnitude, random, or a ticket.")
    ] = None,
    recipe: Annotated[
        str | None,
        typer.Option(help=f"Preset: {', '.join(RECIPES)}, or a TOML file of settings."),
    ] = None,
    steps: Annotated[int | None, typer.Option(help="Optimiser steps.")] = None,
    batch_size: Annotated[int | None, typer.Option(help="Sequences per step.")] = None,
    micro_batch_size: Annotated[
        int | None, typer.Option(help="Sequences per forward pass (gradient accumulation).")
    ] = None,
    sequence_length: Annotated[int | None, typer.Option(help="Tokens per sequence.")] = None,
    learning_rate: Annotated[float | None, typer.Option(help="Peak rate of the scores.")] = None,
    max_minutes: Annotated[float | None, typer.Option(help="Stop training after so long.")] = None,
    precision: Annotated[str | None, typer.Option(help=f"One of {', '.join(PRECISIONS)}.")] = None,
    device: DeviceOption = "auto",
    threads: ThreadsOption = None,
    seed: SeedOption = 1,
    output_dir: Annotated[
        Path | None, typer.Option(help="The run's folder; by default one under runs/.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Redo a finished run.")] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show what would be done, and stop.")
    ] = False,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
    debug: DebugOption = False,
) -> None:
    """Find a ticket: train a mask over the frozen weights of an encoder on unlabelled text."""
    # Without --recipe, which one it is depends on a GPU; but a wrong value is wrong with either.
    asked = {
        "sparsity": sparsity,
        "model": model,
        "corpus": tuple(corpus) if corpus else None,
        "held_out": tuple(held_out) if held_out else None,
        "check_corpus": tuple(check_corpus) if check_corpus else None,
        "text_column": text_column,
        "method": method,
        "objective": objective,
        "init": init,
        "steps": steps,
        "batch_size": batch_size,
        "micro_batch_size": micro_batch_size,
        "sequence_length": sequence_length,
        "learning_rate": learning_rate,
        "max_minutes": max_minutes,
        "precision": precision,
        "device": device,
        "threads": threads,
        "seed": seed,
    }
    config = SearchConfig.from_recipe(recipe or "nano", **asked)
    output = _output(as_json, quiet)
    _hush_libraries()
    from tamtctl import searching
    from tamtctl.console import SearchView, show_plan, show_search_result

    if recipe is None:
        recipe, why = searching.default_recipe(config)
        output.line(f"recipe {recipe}: {why}")
        config = SearchConfig.from_recipe(recipe, **asked)
    view = SearchView(output)
    try:
        if dry_run:
            plan = searching.plan_search(config, output_dir=output_dir, watcher=view)
            show_plan(output, plan)
            output.result(plan.to_dict(), str(plan.run_folder))
            return
        result = searching.search(config, output_dir=output_dir, force=force, watcher=view)
    finally:
        view.close()
    show_search_result(output, result)
    output.result(result.to_dict(), str(result.ticket))


@app.command(epilog="Example: tamtctl inspect nano-0.8")
def inspect(
    ticket: Annotated[str, typer.Argument(help="Folder or packaged name of a ticket.")],
    as_json: JsonOption = False,
    quiet: QuietOption = False,
    debug: DebugOption = False,
) -> None:
    """Look into a ticket: where it comes from, what each matrix keeps, whether it is intact."""
    output = _output(as_json, quiet)
    from tamtctl.inspecting import inspect_ticket, show_inspection

    inspection = inspect_ticket(ticket)
    show_inspection(output, inspection)
    output.result(inspection.to_dict(), "valid" if inspection.is_valid else "invalid")
    if not inspection.is_valid:
        raise TamtctlError(inspection.problem)


@app.command("list", epilog="Example: tamtctl list --json")
def list_tickets(
    as_json: JsonOption = False, quiet: QuietOption = False, debug: DebugOption = False
) -> None:
    """List the tickets at hand: packaged ones and those under runs/."""
    output = _output(as_json, quiet)
    from tamtctl.inspecting import known_tickets, show_tickets

    tickets = known_tickets()
    show_tickets(output, tickets)
    output.result(
        {"tickets": [ticket.to_dict() for ticket in tickets]},
        "\n".join(ticket.name for ticket in tickets),
    )


@app.command(epilog="Example: tamtctl env > report.txt")
def env(
    as_json: JsonOption = False, quiet: QuietOption = False, debug: DebugOption = False
) -> None:
    """Print what a bug report needs: versions, device, threads, caches."""
    output = _output(as_json, quiet)
    from tamtctl.environment import environment

    facts = environment()
    output.facts({name: str(value) for name, value in facts.items()})
    output.result(facts, facts["tamtctl"])


def _output(as_json: bool, quiet: bool) -> Output:
    from tamtctl.console import Output

    return Output(as_json=as_json, quiet=quiet)


def _hush_libraries() -> None:
    """Keep the libraries' own bars and notes off the screen; what matters, we say ourselves."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")
    import datasets
    import transformers

    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    datasets.disable_progress_bars()
    datasets.logging.set_verbosity_error()


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


def main() -> None:
    """Run the command line; every error ends here as one line and an exit code."""
    with _sigterm_raises():
        sys.exit(_run())


def _run() -> int:
    try:
        code: int = app(standalone_mode=False) or 0
        # The parser turns Ctrl-C into this code, and says nothing.
        return _fail("interrupted", code) if code == _INTERRUPTED else code
    except TamtctlError as error:
        return _fail(str(error), error.exit_code)
    except typer.TyperException as error:  # a usage error of the parser
        return _fail(error.format_message(), 2)
    except (KeyboardInterrupt, typer.Abort):
        return _fail("interrupted", _INTERRUPTED)
    except SystemExit:  # raised by our handler of SIGTERM
        return _fail("terminated", _TERMINATED)
    except BrokenPipeError:
        sys.stdout = open(os.devnull, "w")  # noqa: PTH123, SIM115, its reader has gone
        return 1
    except Exception as error:
        if line := explain(error):
            return _fail(line, 1)
        kind = type(error).__name__
        return _fail(
            f"internal error ({kind}: {error}); please report it with --debug and tamtctl env", 1
        )


def _fail(message: str, code: int) -> int:
    if "--debug" in sys.argv:
        traceback.print_exc()
    sys.stderr.write(f"error: {' '.join(message.split())}\n")
    return code


if __name__ == "__main__":
    main()
