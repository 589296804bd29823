"""Rust libraries that break down: an exception that no ``except Exception`` sees, and its noise."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager


def is_panic(error: BaseException) -> bool:
    """Tell whether an exception is one of Rust, which derives from BaseException alone."""
    return type(error).__name__ == "PanicException"


@contextmanager
def quiet_panics() -> Iterator[None]:
    """Keep what Rust writes to standard error when it panics; anything else still gets there.

    It writes to the descriptor itself, past ``sys.stderr``. Whoever catches the panic says what
    happened, in one line.
    """
    try:
        original = os.dup(2)
    except OSError:  # there is no standard error
        yield
        return
    panicked = False
    with tempfile.TemporaryFile() as kept:
        sys.stderr.flush()
        os.dup2(kept.fileno(), 2)
        try:
            yield
        except BaseException as error:
            panicked = is_panic(error)
            raise
        finally:
            sys.stderr.flush()
            os.dup2(original, 2)
            os.close(original)
            kept.seek(0)
            if not panicked and (written := kept.read()):
                os.write(2, written)
