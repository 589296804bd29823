"""Finding masks in files of other programs, under the encoder's own names of its matrices.

The files may hold masks alone, weights pruned by ``torch.nn.utils.prune``, or weights that are zero
where those of the base model are not.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from tamtctl.foundations.errors import TicketError, UsageError
from tamtctl.foundations.untrusted import show
from tamtctl.models.encoder import Encoder

_MASK, _WEIGHT, _ORIGINAL = ".weight_mask", ".weight", ".weight_orig"
_ALIKE = 0.5  # cosine of kept weights and the model's: near 0 for another model, near 1 for its own

# The kinds of content, as messages call them.
MASKS, PRUNED, ZEROS = "masks", "torch.nn.utils.prune", "zeros of a checkpoint"


def names_all(tensors: Mapping[str, Tensor], encoder: Encoder) -> bool:
    """Return whether a source names every matrix of an encoder, or holds masks of some."""
    has_masks = any(name.endswith(_MASK) for name in tensors)
    return has_masks or all(
        any(name == matrix or name.endswith(f".{matrix}") for name in tensors)
        for matrix in encoder.weights
    )


@dataclass(frozen=True)
class ForeignMasks:
    """Masks that another program made, and how they were found.

    Attributes:
        masks: Name of the matrix → boolean mask; True keeps.
        kind: The kind of content: ``MASKS``, ``PRUNED`` or ``ZEROS``.
        prefix: The first part of the encoder's parameter names in the source.
        other_prefixes: Prefixes of further encoders in the source.
        ignored: How many tensors of the source belong to no maskable matrix.
        remark: A doubt that the source was made from this model; None if there is none.
    """

    masks: dict[str, Tensor]
    kind: str
    prefix: str
    other_prefixes: tuple[str, ...]
    ignored: int
    remark: str | None


def find_masks(
    tensors: Mapping[str, Tensor], encoder: Encoder, source: str, prefix: str | None
) -> ForeignMasks:
    """Return the masks of an encoder's matrices.

    Args:
        tensors: Name → tensor of the source.
        encoder: The model that the masks belong to.
        source: The name of the source, for messages.
        prefix: The first part of the encoder's parameter names; None: it is found.

    Raises:
        UsageError: The source holds several encoders, and the prefix does not choose one.
        TicketError: The source holds no masks for this model.
    """
    weights, there = encoder.weights, len(tensors)
    before: Mapping[str, Tensor] = {}
    has_masks = any(name.endswith(_MASK) for name in tensors)
    if has_masks:
        kind = PRUNED if any(name.endswith(_ORIGINAL) for name in tensors) else MASKS
        before = {n.removesuffix("_orig"): t for n, t in tensors.items() if n.endswith(_ORIGINAL)}
        tensors = {n.removesuffix("_mask"): t for n, t in tensors.items() if n.endswith(_MASK)}
    named = {name: tensor for name, tensor in tensors.items() if name.endswith(_WEIGHT)}
    for name, tensor in (*named.items(), *before.items()):
        if tensor.layout != torch.strided:
            raise TicketError(
                f"{source!r} holds {show(name)} as a sparse tensor; save it by its to_dense()"
            )
    copies = _copies(named, weights)
    if not copies:
        theirs, ours = show(next(iter(tensors), "nothing")), next(iter(weights))
        raise TicketError(
            f"{source!r} names no matrix of {encoder.id!r}; it has tensors such as {theirs}, "
            f"the model such as {ours}"
        )
    chosen = _named(copies, prefix, source) if prefix is not None else _only(copies, source)
    found = copies[chosen]
    originals = {name: before[chosen + name] for name in found if chosen + name in before}
    for name, tensor in (*found.items(), *originals.items()):
        if tensor.shape != weights[name].shape:
            raise TicketError(
                f"{source!r}: {name} has the shape {list(tensor.shape)}, in {encoder.id!r} "
                f"{list(weights[name].shape)}; give the model that the masks belong to"
            )
    if not has_masks:
        kind = MASKS if all(map(_is_binary, found.values())) else ZEROS
    elif odd := next((name for name, mask in found.items() if not _is_binary(mask)), None):
        raise TicketError(f"{source!r}: the mask of {odd} holds more than zeros and ones")
    if kind == ZEROS:
        # Zeros that the base model has, too, as in the row of padding, were not pruned.
        masks = {n: (t != 0) | (weights[n] == 0) for n, t in found.items()}
        masks = {n: mask for n, mask in masks.items() if not bool(mask.all())}
        if not masks:
            raise TicketError(f"{source!r} holds no zeros that {encoder.id!r} has not; not pruned")
    else:
        masks = {n: t != 0 for n, t in found.items()}
        if all(bool(mask.all()) for mask in masks.values()):
            raise TicketError(f"the masks in {source!r} keep every weight; not pruned")
        if not any(bool(mask.any()) for mask in masks.values()):
            raise TicketError(
                f"the masks in {source!r} keep no weight; where 1 stands for a pruned weight, give "
                "1 − mask"
            )
    kept = originals if kind == PRUNED else found
    remark = None if kind == MASKS else _doubt(kept, masks, encoder)
    others = tuple(sorted(p for p in copies if p != chosen))
    matched = {p + matrix for p, copy in copies.items() for matrix in copy}
    return ForeignMasks(
        masks={n: masks[n] for n in weights if n in masks},
        kind=kind,
        prefix=chosen,
        other_prefixes=others,
        ignored=there - len(matched) - len(matched & before.keys()),
        remark=remark,
    )


def _doubt(kept: Mapping[str, Tensor], masks: Mapping[str, Tensor], encoder: Encoder) -> str | None:
    """Return a remark if the kept weights of a checkpoint are hardly those of the model, else None.

    Another model of the same size has matrices of the same shapes, but masks for one are useless
    for the other. Weights that were trained after pruning are still close to the original ones.
    """
    if odd := next((name for name, tensor in kept.items() if not tensor.isfinite().all()), None):
        return f"its matrix {odd} holds numbers that are infinite or NaN"
    found = {
        name: _likeness(kept[name], encoder.weights[name], mask)
        for name, mask in masks.items()
        if name in kept
    }
    unlike = {name: likeness for name, likeness in found.items() if likeness < _ALIKE}
    if not unlike:
        return None
    name, likeness = min(unlike.items(), key=lambda item: item[1])
    return (
        f"in {len(unlike)} of {len(found)} matrices, the weights that it keeps are hardly those of "
        f"{encoder.id} (of {name} their cosine is {likeness:.2f}, of one model's nearly 1): is it "
        "made of this --model, and is no matrix transposed?"
    )


def _likeness(theirs: Tensor, ours: Tensor, mask: Tensor) -> float:
    """Return the cosine of the kept weights of two matrices; 1 if none is kept."""
    if not mask.any():
        return 1.0
    pair = theirs[mask].double(), ours[mask].double()
    return float(torch.nn.functional.cosine_similarity(*pair, dim=0))


def _copies(
    tensors: Mapping[str, Tensor], weights: Mapping[str, Tensor]
) -> dict[str, dict[str, Tensor]]:
    """Return prefix → name in the base encoder → tensor.

    In a model with a head, or wrapped by another program, all names have the same prefix; a file of
    training state may hold several models.
    """
    prefixes = {
        name.removesuffix(matrix)
        for matrix in weights
        for name in tensors
        if name == matrix or name.endswith(f".{matrix}")
    }
    return {
        prefix: {m: tensors[prefix + m] for m in weights if prefix + m in tensors}
        for prefix in sorted(prefixes)
    }


def _only(copies: Mapping[str, Mapping[str, Tensor]], source: str) -> str:
    """Return the prefix of the only encoder.

    Copies with the same zeros count as one encoder. A copy that shares no matrix with the largest
    one is no encoder but, for example, the pooler of a head.

    Raises:
        UsageError: Several encoders differ.
    """
    largest = max(copies, key=lambda prefix: len(copies[prefix]))
    rivals = [
        prefix
        for prefix, copy in copies.items()
        if any(
            name in copies[largest] and not _prunes_alike(tensor, copies[largest][name])
            for name, tensor in copy.items()
        )
    ]
    if rivals:
        known = ", ".join(ascii(prefix[:200]) for prefix in sorted({largest, *rivals}))
        raise UsageError(
            f"{source!r} holds {len(rivals) + 1} encoders that differ, under the prefixes {known}; "
            "choose one with --prefix"
        )
    return largest


def _named(copies: Mapping[str, object], wanted: str, source: str) -> str:
    """Return the prefix that a user names, also if its last dot or its last parts are missing.

    Raises:
        UsageError: No prefix or several prefixes fit.
    """
    exact = [prefix for prefix in copies if prefix.removesuffix(".") == wanted.removesuffix(".")]
    begun = [p for p in copies if wanted and p.startswith(wanted.removesuffix(".") + ".")]
    if len(found := exact or begun) != 1:
        known = ", ".join(map(ascii, sorted(found or copies)))
        raise UsageError(
            f"--prefix {wanted!r} is {'several' if found else 'none'} of the prefixes of "
            f"{source!r}: {known}"
        )
    return found[0]


def _prunes_alike(one: Tensor, other: Tensor) -> bool:
    return one.shape == other.shape and torch.equal(one != 0, other != 0)


def _is_binary(tensor: Tensor) -> bool:
    return tensor.dtype == torch.bool or bool(((tensor == 0) | (tensor == 1)).all())
