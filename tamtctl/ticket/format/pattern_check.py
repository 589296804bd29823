"""Checking the bits of masks against the pattern that a ticket names."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from tamtctl.foundations.untrusted import Defect
from tamtctl.models.structures import Shapes, Slices, matrices_of
from tamtctl.ticket.format.mask_codec import Mask
from tamtctl.ticket.format.patterns import Claim


def check_pattern(pattern: str, shapes: Shapes, mask: Callable[[str], Mask]) -> str | None:
    """Check that masks have a pattern, and return a line on it; None if it is not known here.

    Args:
        pattern: The name of the pattern.
        shapes: Name → shape of every masked matrix.
        mask: Returns the mask of a matrix by its name, in the shape of the matrix.

    Raises:
        Defect: A mask does not have the pattern.
    """
    claim = Claim.read(pattern)
    if claim is None:
        return None
    try:
        structures = claim.structures(shapes)
    except ValueError as error:
        raise Defect(f"is no ticket of the pattern {pattern}: {error}") from error
    if structures is None:
        kept_each, size = claim.numbers
        for name in shapes:
            _check_groups(name, mask(name), kept_each, size, pattern)
        return f"{kept_each} of every {size} neighbours are kept"
    if strange := sorted(shapes.keys() - set(matrices_of(structures))):
        raise Defect(f"is no ticket of the pattern {pattern}: it masks {strange[0]}, too")
    kept = {group: _kept_structures(slices, mask, pattern) for group, slices in structures.items()}
    if claim.form.is_alike:
        _check_alike({group: (len(mask), int(mask.sum())) for group, mask in kept.items()}, pattern)
    if claim.form.keeps_one:
        for group, mask_of_group in kept.items():
            if not mask_of_group.any():
                raise Defect(
                    f"is no ticket of the pattern {pattern}: it keeps none of the "
                    f"{claim.form.noun} of {group}"
                )
    counts = sum(int(one.sum()) for one in kept.values()), sum(map(len, kept.values()))
    return f"{counts[0]:,} of {counts[1]:,} {claim.form.noun} are kept, and all others are pruned"


def _check_groups(name: str, mask: Mask, kept: int, size: int, pattern: str) -> None:
    if mask.ndim != 2 or mask.shape[1] % size:
        raise Defect(f"mask of {name} is not {pattern}: its rows are not made of {size} each")
    counts = mask.reshape(-1, size).sum(axis=1, dtype=np.int64)
    if (odd := np.flatnonzero(counts != kept)).size:
        row, place = divmod(int(odd[0]) * size, mask.shape[1])
        raise Defect(
            f"mask of {name} is not {pattern}: it keeps {int(counts[odd[0]])} of the {size} "
            f"weights of row {row} from column {place} on"
        )


def _kept_structures(slices: tuple[Slices, ...], mask: Callable[[str], Mask], pattern: str) -> Mask:
    """Return which structures of a group are kept, boolean of shape (structures,).

    Raises:
        Defect: A structure is kept in part.
    """
    kept: Mask | None = None
    for one in slices:
        view = mask(one.matrix).reshape(one.view)
        whole, part = view.all(axis=one.others).ravel(), view.any(axis=one.others).ravel()
        kept = whole if kept is None else kept
        if not (np.array_equal(whole, part) and np.array_equal(whole, kept)):
            place = int(np.flatnonzero((whole != part) | (whole != kept))[0])
            raise Defect(
                f"mask of {one.matrix} is not {pattern}: it keeps a part of number {place}"
            )
    assert kept is not None  # a group has a matrix
    return kept


def _check_alike(counts: dict[str, tuple[int, int]], pattern: str) -> None:
    """Check that groups of the same size keep the same number of structures.

    Raises:
        Defect: They do not.
    """
    first: dict[int, tuple[str, int]] = {}
    for group, (size, kept) in counts.items():
        other, as_many = first.setdefault(size, (group, kept))
        if kept != as_many:
            raise Defect(
                f"is no ticket of the pattern {pattern}: {group} keeps {kept} of {size}, and "
                f"{other} {as_many}"
            )
