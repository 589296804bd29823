"""What is shown while a command works, and what must not be printed beside it."""

from __future__ import annotations

import logging
import os
import sys
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tamtctl.cli.console import Output


@contextmanager
def watched(output: Output, what: str) -> Iterator[None]:
    """Show what is being done inside this context, if it takes long."""
    from tamtctl.cli.views.progress import View
    from tamtctl.foundations.working import heard_by

    view: View[object]
    with closing(View(output)) as view:
        view.status(what)
        with heard_by(view):
            yield


def hush_hub(output: Output) -> None:
    """Let the Hub's client show its bars on terminals only, and its notes nowhere.

    The client notes each retry; if all fail it raises, and the one line of our error says why.
    """
    from huggingface_hub.utils import logging as notes_of_hub
    from huggingface_hub.utils.tqdm import are_progress_bars_disabled, disable_progress_bars

    # Setting the level of its logger would not do: the first request sets it anew.
    notes_of_hub.set_verbosity_error()  # type: ignore[no-untyped-call]
    is_watched = sys.stderr.isatty() and not (output.as_json or output.quiet)
    if not is_watched and not are_progress_bars_disabled():
        disable_progress_bars()


def hush_libraries() -> None:
    """Turn off the bars and notes of libraries; the commands show what matters of them."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")
    hush_plotting()
    import datasets
    import transformers

    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    datasets.disable_progress_bars()
    datasets.logging.set_verbosity_error()


def hush_plotting() -> None:
    """Turn off matplotlib's notes on fonts and folders, which do not change what it draws."""
    logging.getLogger("matplotlib").setLevel(logging.ERROR)


def selected(on_dev_set: bool) -> str:
    """Return the label of a score whose checkpoint was chosen on the dev set; empty for others."""
    return " selected on the dev set" if on_dev_set else ""
