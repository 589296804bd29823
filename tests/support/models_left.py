"""Whether what has ended leaves a model in memory, where the next one would stand beside it."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager

from transformers import PreTrainedModel


@contextmanager
def no_model_is_left() -> Iterator[None]:
    """Check that no model that is made in this context lives on after it.

    Python's collector is off: it would come some day and free what cycles hold, but it does not
    come because a GPU is full.
    """
    gc.collect()
    before = _models()
    gc.disable()
    try:
        yield
        assert _models() == before
    finally:
        gc.enable()


def _models() -> int:
    return sum(isinstance(one, PreTrainedModel) for one in gc.get_objects())
