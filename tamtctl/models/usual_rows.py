"""The default unit of text (``--rows``) of a model: the one that it reads in use.

An encoder of sentence-transformers embeds sentences. A mask that was trained and measured on blocks
across sentences would keep what such an encoder does not need.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

from tamtctl.data.units import BLOCKS, SENTENCES
from tamtctl.models.files import CONFIG_FILE, MODULES, ModelFiles


def embeds_sentences(name: str) -> bool:
    """Return whether a model is known to be one of sentence-transformers.

    Args:
        name: ``nano``, a folder or a Hub id.
    """
    return usual_rows(name) == SENTENCES


def usual_rows(
    name: str, revision: str | None = None, *, note: Callable[[str], None] = lambda _: None
) -> str:
    """Return the default unit of a model, a name in `tamtctl.data.units.UNITS`.

    Args:
        name: ``nano``, a folder or a Hub id.
        revision: Branch, tag or commit on the Hub.
        note: Is given a line for people if the Hub could not be asked.
    """
    files = ModelFiles.of(name, revision)
    if files.folder is not None:
        return BLOCKS if files.path(MODULES) is None else SENTENCES
    is_sentence_encoder = _on_hub(files)
    if is_sentence_encoder is None:
        note(
            f"the Hub could not be asked whether {name} is a sentence encoder, for which --rows "
            f"{SENTENCES} is the default: the text is cut into {BLOCKS}"
        )
    return SENTENCES if is_sentence_encoder else BLOCKS


@cache  # a sweep asks for every run
def _on_hub(files: ModelFiles) -> bool | None:
    """Return whether a model on the Hub is a sentence encoder; None if unknown."""
    try:
        if files.path(MODULES) is not None:
            return True
        is_there = files.path(CONFIG_FILE) is not None
    except OSError:  # no such model; loading it raises the error
        return False
    return None if is_there and files.are_unknown(MODULES) else False
