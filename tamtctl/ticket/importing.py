"""From masks of other programs to a ticket.

Read are ``mask.pt`` of the paper's code and of BERT-Tickets, checkpoints made with
``torch.nn.utils.prune``, and any checkpoint that holds zeros where the base model does not.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from tamtctl.foundations.checks import one_of
from tamtctl.foundations.errors import UsageError
from tamtctl.foundations.folders import check_target
from tamtctl.foundations.paths import expanded
from tamtctl.foundations.public_names import public, public_model
from tamtctl.foundations.selection import keep_count
from tamtctl.foundations.shown import Shown
from tamtctl.models.checkpoint_files import CheckpointFiles
from tamtctl.models.declared_base import DeclaredBase
from tamtctl.models.encoder import fingerprint
from tamtctl.models.loading import load_encoder
from tamtctl.ticket.base_model import recode
from tamtctl.ticket.foreign_masks import find_masks
from tamtctl.ticket.format.mask_codec import ENCODINGS
from tamtctl.ticket.format.metadata import METADATA_FILE
from tamtctl.ticket.hub.card import as_published
from tamtctl.ticket.hub.names import DECLARED
from tamtctl.ticket.ticket import Ticket

TICKET = "ticket"  # the kind of content where it is none of another program


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
    found = find_masks(tensors, encoder, str(source), prefix)
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
