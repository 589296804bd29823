from __future__ import annotations

from pathlib import Path

import torch

from tamtctl.pruning.trained.folded_weights import mapped_copies


def test_copies_lie_in_a_file_without_a_name(tmp_path: Path) -> None:
    tensors = {f"t{rows}": torch.randn(rows, 7, requires_grad=True) for rows in (1, 300, 2)}
    copies = mapped_copies(tensors, tmp_path / "new")
    assert all(torch.equal(copies[name], tensor) for name, tensor in tensors.items())
    assert list((tmp_path / "new").iterdir()) == []
    lines = Path("/proc/self/maps").read_text().splitlines()
    assert any(str(tmp_path) in line and "(deleted)" in line for line in lines)
    with torch.no_grad():
        tensors["t300"].zero_()
    assert copies["t300"].abs().sum() > 0
