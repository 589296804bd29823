"""From masks of other programs to a ticket.

Read are ``mask.pt`` of the paper's code and of BERT-Tickets, checkpoints made with
``torch.nn.utils.prune``, and any checkpoint that holds zeros where the base model does not. No file
is unpickled: ``torch.load`` reads tensors only (``weights_only=True``).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from tamtctl.bases import recode
from tamtctl.config import one_of
from tamtctl.errors import TicketError, UsageError
from tamtctl.mask_coding import ENCODINGS
from tamtctl.models import Encoder, load_encoder
from tamtctl.selection import keep_count
from tamtctl.ticket import Ticket
from tamtctl.ticket_format import METADATA_FILE
from tamtctl.untrusted import reason, show

CHECKPOINT_FILES = ("model.safetensors", "pytorch_model.bin", "mask.pt")
_MASK, _WEIGHT = ".weight_mask", ".weight"

# The kinds of content, as they are told to the user.
MASKS, PRUNED, ZEROS, TICKET = "masks", "torch.nn.utils.prune", "zeros of a checkpoint", "ticket"


@dataclass(frozen=True)
class ImportResult:
    """What an import made.

    Attributes:
        ticket: The ticket's folder.
        kind: What was read: masks, a pruned checkpoint, the zeros of one, or a ticket.
        sparsity: Share of zeros in the masked matrices.
        matrices: How many are masked.
        dense: Maskable matrices of the model that the source does not mask.
        ignored: How many tensors of the source belong to no maskable matrix.
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

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return asdict(self) | {"ticket": str(self.ticket), "dense": list(self.dense)}


def import_ticket(
    source: Path | str,
    output_dir: Path | str,
    *,
    model: str | None = None,
    revision: str | None = None,
    method: str = "imported",
    encoding: str = "bits",
) -> ImportResult:
    """Make a ticket of masks that another program made, or of a ticket in another encoding.

    Args:
        source: A ``.pt``, ``.bin`` or ``.safetensors`` file, or a checkpoint's or ticket's folder.
        output_dir: The ticket's folder; new, empty, or a ticket, which is replaced.
        model: The pre-trained model that the masks belong to; a ticket knows its own.
        revision: Its branch, tag or commit on the Hub.
        method: How the masks were found, for the record.
        encoding: ``bits``, ``zstd`` or ``delta``.

    Raises:
        UsageError: The model is needed and not given.
        ModelError: It cannot be loaded.
        TicketError: The source cannot be read, or holds no masks for this model.
    """
    one_of("encoding", encoding, ENCODINGS)
    path = Path(source).expanduser()
    if (path / METADATA_FILE).exists():
        ticket = recode(Ticket.load(path), encoding)
        ticket.save_pretrained(output_dir)
        return _result(output_dir, ticket, TICKET, (), 0)
    if model is None:
        raise UsageError("--model is needed: the pre-trained model that the masks belong to")
    tensors = _read(path)
    encoder = load_encoder(model, with_head=False, revision=revision)
    masks, kind, ignored = _masks(tensors, encoder, str(source))
    weights = {name: encoder.weights[name] for name in encoder.weights if name in masks}
    ticket = Ticket.create(
        weights,
        masks,
        base_model_id=encoder.id,
        revision=encoder.revision,
        model_type=encoder.model.config.model_type,
        **_sparsity(masks),
        method=method,
        objective=None,
        search={"imported_from": path.name, "kind": kind},
        metrics={},
    ).encode(encoding, weights)
    ticket.save_pretrained(output_dir)
    dense = tuple(name for name in encoder.weights if name not in masks)
    return _result(output_dir, ticket, kind, dense, ignored)


def _result(
    output_dir: Path | str, ticket: Ticket, kind: str, dense: tuple[str, ...], ignored: int
) -> ImportResult:
    return ImportResult(
        ticket=Path(output_dir).expanduser(),
        kind=kind,
        sparsity=ticket.sparsity,
        matrices=len(ticket.parameters),
        dense=dense,
        ignored=ignored,
        encoding=ticket.encoding,
        bytes=ticket.stored_bytes,
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


def _read(path: Path) -> dict[str, Tensor]:
    """Return the tensors of a file, or of the checkpoint in a folder, by name."""
    if path.is_dir():
        found = [path / name for name in CHECKPOINT_FILES if (path / name).is_file()]
        found = found[:1] or sorted(path.glob("model-*-of-*.safetensors"))
        if not found:
            raise TicketError(
                f"folder {str(path)!r} holds none of {', '.join(CHECKPOINT_FILES)}; give the file"
            )
    elif path.is_file():
        found = [path]
    else:
        raise TicketError(f"there is no file or folder {str(path)!r}")
    tensors: dict[str, Tensor] = {}
    for file in found:
        tensors |= _read_file(file)
    return tensors


def _read_file(path: Path) -> dict[str, Tensor]:
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        content = torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        raise TicketError(f"cannot read {str(path)!r}: {reason(error)}") from error
    except SafetensorError as error:
        raise TicketError(f"{str(path)!r} is damaged: {reason(error)}") from error
    except Exception as error:  # torch.load raises anything, from KeyError to RuntimeError
        raise TicketError(
            f"{str(path)!r} is no file of tensors that can be read without running code in it"
        ) from error
    if isinstance(content, Mapping) and isinstance(content.get("state_dict"), Mapping):
        content = content["state_dict"]
    if not isinstance(content, Mapping):
        raise TicketError(f"{str(path)!r} holds no tensors by name")
    return {str(n): t for n, t in content.items() if isinstance(t, Tensor) and not t.is_meta}


def _masks(
    tensors: Mapping[str, Tensor], encoder: Encoder, source: str
) -> tuple[dict[str, Tensor], str, int]:
    """Return the masks of the encoder's matrices, their kind, and how many tensors were ignored."""
    weights = encoder.weights
    has_masks = any(name.endswith(_MASK) for name in tensors)
    if has_masks:
        kind = PRUNED if any(name.endswith(".weight_orig") for name in tensors) else MASKS
        tensors = {n.removesuffix("_mask"): t for n, t in tensors.items() if n.endswith(_MASK)}
    found = _matched({n: t for n, t in tensors.items() if n.endswith(_WEIGHT)}, weights)
    if not found:
        theirs, ours = show(next(iter(tensors), "nothing")), next(iter(weights))
        raise TicketError(
            f"{source!r} names no matrix of {encoder.id!r}; it has tensors such as {theirs}, "
            f"the model such as {ours}"
        )
    for name, tensor in found.items():
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
    return {n: masks[n] for n in weights if n in masks}, kind, len(tensors) - len(found)


def _matched(tensors: Mapping[str, Tensor], weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors under the names that the base encoder gives its matrices.

    A model with a head, or wrapped by some program, calls them so with one prefix for all.
    """
    prefixes = {
        name.removesuffix(matrix)
        for matrix in weights
        for name in tensors
        if name == matrix or name.endswith(f".{matrix}")
    }
    candidates = [
        {matrix: tensors[prefix + matrix] for matrix in weights if prefix + matrix in tensors}
        for prefix in sorted(prefixes)
    ]
    return max(candidates, key=len, default={})


def _is_binary(tensor: Tensor) -> bool:
    return tensor.dtype == torch.bool or bool(((tensor == 0) | (tensor == 1)).all())
