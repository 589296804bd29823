"""From masks of other programs to a ticket.

Read are ``mask.pt`` of the paper's code and of BERT-Tickets, checkpoints made with
``torch.nn.utils.prune``, and any checkpoint that holds zeros where the base model does not.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tamtctl.foundations.checks import one_of
from tamtctl.foundations.errors import TicketError, UsageError
from tamtctl.foundations.folders import check_target
from tamtctl.foundations.paths import expanded
from tamtctl.foundations.public_names import public, public_model
from tamtctl.foundations.selection import keep_count
from tamtctl.foundations.shown import Shown
from tamtctl.foundations.untrusted import show
from tamtctl.models.checkpoint_files import CheckpointFiles
from tamtctl.models.declared_base import DeclaredBase
from tamtctl.models.encoder import Encoder, fingerprint
from tamtctl.models.loading import load_encoder
from tamtctl.ticket.base_model import recode
from tamtctl.ticket.format.mask_codec import ENCODINGS
from tamtctl.ticket.format.metadata import METADATA_FILE
from tamtctl.ticket.hub.card import as_published
from tamtctl.ticket.hub.names import DECLARED
from tamtctl.ticket.ticket import Ticket

_MASK, _WEIGHT, _ORIGINAL = ".weight_mask", ".weight", ".weight_orig"
_ALIKE = 0.5  # cosine of kept weights and the model's; of two models it is 0, of one above 0.9

# The kinds of content, as they are told to the user.
MASKS, PRUNED, ZEROS, TICKET = "masks", "torch.nn.utils.prune", "zeros of a checkpoint", "ticket"


@dataclass(frozen=True, repr=False)
class ImportResult(Shown):
    """What an import made.

    Attributes:
        ticket: The ticket's folder.
        kind: What was read: masks, a pruned checkpoint, the zeros of one, or a ticket.
        sparsity: Share of zeros in the masked matrices.
        matrices: How many are masked.
        dense: Maskable matrices of the model that the source does not mask.
        ignored: How many tensors of the source belong to no maskable matrix.
        prefix: What the names of the matrices begin with in the source.
        other_prefixes: Prefixes of further encoders in the source: copies with the same zeros, or
            those that were not chosen.
        file: The file in the folder that was read, or the index of several.
        not_read: Other files in it that look like weights.
        base_model: What is known of the base model that was declared.
        remark: A doubt whether the source is made of this model; None if there is none.
        encoding: How the masks are stored.
        bytes: Size of the stored masks.
    """

    ticket: Path
    kind: str
    sparsity: float
    matrices: int
    dense: tuple[str, ...]
    ignored: int
    encoding: str
    bytes: int
    prefix: str = ""
    other_prefixes: tuple[str, ...] = ()
    file: str | None = None
    not_read: tuple[str, ...] = ()
    base_model: str | None = None
    remark: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        lists = {name: list(v) for name, v in vars(self).items() if isinstance(v, tuple)}
        return asdict(self) | lists | {"ticket": str(self.ticket)}


@dataclass(frozen=True)
class _Found:
    """Masks, and how they were found; see `ImportResult`."""

    masks: dict[str, Tensor]
    kind: str
    prefix: str
    other_prefixes: tuple[str, ...]
    ignored: int
    remark: str | None


def import_ticket(
    source: Path | str,
    output_dir: Path | str,
    *,
    model: Path | str | None = None,
    revision: str | None = None,
    method: str = "imported",
    prefix: str | None = None,
    encoding: str = "bits",
    base_model: str | None = None,
) -> ImportResult:
    """Make a ticket of masks that another program made, or of a ticket in another encoding.

    Args:
        source: A ``.pt``, ``.bin`` or ``.safetensors`` file, or a checkpoint's or ticket's folder.
        output_dir: The ticket's folder; new, empty, or a ticket, which is replaced.
        model: The pre-trained model that the masks belong to; a ticket knows its own.
        revision: Its branch, tag or commit on the Hub.
        method: How the masks were found, for the record.
        prefix: What the names of the encoder's tensors begin with, where the source holds several.
        encoding: ``bits``, ``zstd`` or ``delta``.
        base_model: Hub id ``org/name[@revision]`` of the model that the folder ``model`` holds.

    Raises:
        UsageError: The model is needed and not given, or which of several encoders is meant.
        ModelError: It cannot be loaded.
        TicketError: The source cannot be read, or holds no masks for this model.

    Example:
        >>> made = tamtctl.import_ticket("my-sparse-model", "my-imported", model="nano")
        >>> made.kind, round(made.sparsity, 3)
        ('zeros of a checkpoint', 0.7)
    """
    one_of("encoding", encoding, ENCODINGS)
    path, output_dir = expanded(source), expanded(output_dir)
    check_target(output_dir, METADATA_FILE)
    model = None if model is None else str(model)
    if (path / METADATA_FILE).exists():
        return _recoded(path, output_dir, encoding, model, base_model)
    if model is None:
        raise UsageError("--model is needed: the pre-trained model that the masks belong to")
    if base_model is not None and public_model(model)[0] == model:
        raise UsageError(f"--base-model is for a --model in a local folder, and {model!r} is none")
    files = CheckpointFiles.find(path)
    tensors = files.read()
    encoder = load_encoder(model, with_head=False, revision=revision)
    found = _masks(tensors, encoder, str(source), prefix)
    masks = found.masks
    weights = {name: encoder.weights[name] for name in encoder.weights if name in masks}
    declared = base_model and DeclaredBase.of(base_model, fingerprint(weights)[1])
    search = {"imported_from": public(str(source)), "kind": found.kind}
    ticket = Ticket.create(
        weights,
        masks,
        base_model_id=encoder.id,
        revision=encoder.revision,
        model_type=encoder.model.config.model_type,
        **_sparsity(masks),
        method=method,
        objective=None,
        search=search | ({DECLARED: base_model} if base_model else {}),
        metrics={},
        declared=declared.names if declared else None,
    ).encode(encoding, weights)
    ticket.save_pretrained(output_dir)
    dense = tuple(name for name in encoder.weights if name not in masks)
    return _result(
        output_dir,
        ticket,
        found.kind,
        dense=dense,
        ignored=found.ignored,
        prefix=found.prefix,
        other_prefixes=found.other_prefixes,
        file=files.chosen.name,
        not_read=files.left_out,
        base_model=declared.note if declared else None,
        remark=found.remark,
    )


def _recoded(
    path: Path, output_dir: Path, encoding: str, model: str | None, base_model: str | None
) -> ImportResult:
    """Make a ticket of a ticket: in another encoding, or of a base model that is now named."""
    ticket = Ticket.load(path)
    declared = None
    if base_model is not None:
        declared = DeclaredBase.of(base_model, {n: e.sha256 for n, e in ticket.parameters.items()})
    ticket = as_published(recode(ticket, encoding, model), declared.names if declared else None)
    ticket.save_pretrained(output_dir)
    return _result(output_dir, ticket, TICKET, base_model=declared.note if declared else None)


def _result(
    output_dir: Path,
    ticket: Ticket,
    kind: str,
    *,
    dense: tuple[str, ...] = (),
    ignored: int = 0,
    **more: Any,
) -> ImportResult:
    return ImportResult(
        ticket=output_dir,
        kind=kind,
        sparsity=ticket.sparsity,
        matrices=len(ticket.parameters),
        dense=dense,
        ignored=ignored,
        encoding=ticket.encoding,
        bytes=ticket.stored_bytes,
        **more,
    )


def _sparsity(masks: Mapping[str, Tensor]) -> dict[str, Any]:
    """Return the sparsity that was aimed at, as far as one can tell, and how it is spread."""
    total = sum(mask.numel() for mask in masks.values())
    measured = 1 - sum(int(mask.sum()) for mask in masks.values()) / total
    aimed = round(measured, 3)
    uniform = all(int(m.sum()) == keep_count(m.numel(), aimed) for m in masks.values())
    return {
        "target_sparsity": aimed if uniform else measured,
        "allocation": "uniform" if uniform else "free",
    }


def _masks(
    tensors: Mapping[str, Tensor], encoder: Encoder, source: str, prefix: str | None
) -> _Found:
    """Return the masks of the encoder's matrices, and how they were found."""
    weights = encoder.weights
    before: Mapping[str, Tensor] = {}
    has_masks = any(name.endswith(_MASK) for name in tensors)
    if has_masks:
        kind = PRUNED if any(name.endswith(_ORIGINAL) for name in tensors) else MASKS
        before = {n.removesuffix("_orig"): t for n, t in tensors.items() if n.endswith(_ORIGINAL)}
        tensors = {n.removesuffix("_mask"): t for n, t in tensors.items() if n.endswith(_MASK)}
    copies = _copies({n: t for n, t in tensors.items() if n.endswith(_WEIGHT)}, weights)
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
        # Where the base model has a zero of its own, as in the row of padding, none was pruned.
        masks = {n: (t != 0) | (weights[n] == 0) for n, t in found.items()}
        masks = {n: mask for n, mask in masks.items() if not bool(mask.all())}
        if not masks:
            raise TicketError(f"{source!r} holds no zeros that {encoder.id!r} has not; not pruned")
    else:
        masks = {n: t != 0 for n, t in found.items()}
        if all(bool(mask.all()) for mask in masks.values()):
            raise TicketError(f"the masks in {source!r} keep every weight; not pruned")
    kept = originals if kind == PRUNED else found
    remark = (
        None if kind == MASKS else _doubt({n: kept[n] for n in masks if n in kept}, masks, encoder)
    )
    others = tuple(sorted(p for p in copies if p != chosen))
    matched = {p + matrix for p, copy in copies.items() for matrix in copy}
    return _Found(
        masks={n: masks[n] for n in weights if n in masks},
        kind=kind,
        prefix=chosen,
        other_prefixes=others,
        ignored=len(tensors.keys() - matched),
        remark=remark,
    )


def _doubt(kept: Mapping[str, Tensor], masks: Mapping[str, Tensor], encoder: Encoder) -> str | None:
    """Return a line where the weights that a checkpoint kept are hardly those of the model.

    Another model of the same size has matrices of the same shapes, and the masks of one mean
    nothing to the other. What was trained on after pruning is still close to where it began.
    """
    if not kept:
        return None
    theirs = torch.cat([kept[n][masks[n]].double().flatten() for n in kept])
    ours = torch.cat([encoder.weights[n][masks[n]].double().flatten() for n in kept])
    likeness = float(torch.nn.functional.cosine_similarity(theirs, ours, dim=0))
    if likeness >= _ALIKE:
        return None
    return (
        f"the weights that it keeps are hardly those of {encoder.id} (their cosine is "
        f"{likeness:.2f}, of one model's nearly 1): is it made of this --model?"
    )


def _copies(
    tensors: Mapping[str, Tensor], weights: Mapping[str, Tensor]
) -> dict[str, dict[str, Tensor]]:
    """Return prefix → tensors under the names that the base encoder gives its matrices.

    A model with a head, or wrapped by some program, calls them so with one prefix for all; a
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
    """Return the prefix of the one encoder there is.

    Copies that prune the same are one; what has other matrices than the largest is none, but the
    pooler of some head.

    Raises:
        UsageError: There are several that differ.
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
    """Return the prefix that a user names, with or without its last dot or its later parts."""
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
