"""Counting how often a model runs, whoever runs it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch.nn.modules.module import register_module_forward_hook
from transformers import BertModel


@contextmanager
def counted_passes() -> Iterator[list[int]]:
    """Give a list that gets the rows of every batch which a BERT encoder sees in this context."""
    rows: list[int] = []

    def seen(module: Any, inputs: Any, output: Any) -> None:
        if isinstance(module, BertModel):
            rows.append(len(output.last_hidden_state))

    hook = register_module_forward_hook(seen)
    try:
        yield rows
    finally:
        hook.remove()
