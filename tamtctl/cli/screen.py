"""What a command prints to, and what must not be printed beside it."""

from __future__ import annotations

import logging
import os
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tamtctl.cli.console import Output


def output_of(as_json: bool, quiet: bool) -> Output:
    """Return where a command prints to."""
    from tamtctl.cli.console import Output

    return Output(as_json=as_json, quiet=quiet)


@contextmanager
def watched(output: Output, what: str) -> Iterator[None]:
    """Say on the output what is being done in this context, if it takes long."""
    from tamtctl.cli.views.progress import View
    from tamtctl.foundations.working import heard_by

    view: View[object] = View(output)
    view.status(what)
    try:
        with heard_by(view):
            yield
    finally:
        view.close()


def hush_hub(output: Output) -> None:
    """Let the Hub's client show its bars to people only, and its notes to nobody.

    The client notes each retry; if all fail it raises, and the one line of our error says why.
    """
    from huggingface_hub.utils.tqdm import are_progress_bars_disabled, disable_progress_bars

    logging.getLogger("huggingface_hub").setLevel(logging.ERROR)
    is_watched = sys.stderr.isatty() and not (output.as_json or output.quiet)
    if not is_watched and not are_progress_bars_disabled():
        disable_progress_bars()


def hush_libraries() -> None:
    """Keep the libraries' own bars and notes off the screen; what matters, we say ourselves."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")
    hush_plotting()
    import datasets
    import transformers

    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    datasets.disable_progress_bars()
    datasets.logging.set_verbosity_error()


def hush_plotting() -> None:
    """Keep what matplotlib notes of its fonts and folders off the screen: it draws all the same."""
    logging.getLogger("matplotlib").setLevel(logging.ERROR)


def selected(on_dev_set: bool) -> str:
    """Label a score that is an oracle's, wherever it appears."""
    return " selected on the dev set" if on_dev_set else ""
