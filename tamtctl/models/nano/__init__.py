"""The embedded model ``nano``: a small English BERT, pre-trained by this project.

``README.md`` beside this file says what it was trained on, how, and how good it is.
"""

from __future__ import annotations

from pathlib import Path


def nano_path() -> Path:
    """Return the folder of the embedded model, ready for ``from_pretrained``.

    The weights are stored in float16; load them with ``dtype=torch.float32``.
    """
    return Path(__file__).parent
