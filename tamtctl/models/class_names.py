"""Names of classes that a configuration has only in ``label2id``.

For two classes, transformers 5 writes no ``id2label`` while that has its default names, and then
reads LABEL_0 and LABEL_1 over the names in ``label2id``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from transformers import PreTrainedConfig


def restore_class_names(config: PreTrainedConfig, written: Mapping[str, Any]) -> None:
    """Give a configuration the names of classes that its file has in ``label2id`` alone.

    Args:
        config: As transformers read it.
        written: The JSON object of its file.
    """
    ids = written.get("label2id")
    if written.get("id2label") is not None or not isinstance(ids, dict):
        return
    try:
        names = {int(i): name for name, i in ids.items()}
    except (TypeError, ValueError):
        return
    if len(names) == len(ids) and sorted(names) == list(range(config.num_labels or 0)):
        config.id2label = dict(sorted(names.items()))
        config.label2id = {name: i for i, name in config.id2label.items()}
