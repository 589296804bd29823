"""The format's description in tickets/README.md is enough to write a reader."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import zstandard
from small_tickets import trained_mask

from tamtctl.ticket.format.mask_codec import ENCODINGS, encode_mask

DOCUMENT = Path(__file__).parents[1] / "tickets" / "README.md"


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_the_reader_in_the_document_reads(encoding: str) -> None:
    (code,) = re.findall(r"```python\n(.*?)```", DOCUMENT.read_text(encoding="utf-8"), re.DOTALL)
    reader: dict[str, Any] = {"np": np, "zstandard": zstandard}
    exec(code, reader)
    weight = torch.randn(300, 200).round(decimals=1)  # with many ties
    for mask in (trained_mask(weight, 0.7, 0.05), torch.ones(300, 200) > 0, weight > 5):
        stored = encode_mask(mask.numpy(), encoding, weight.numpy())
        arguments = ((300, 200), int(mask.sum()), weight.numpy(), encoding)
        assert np.array_equal(reader["decode"](stored, *arguments), mask.numpy())
