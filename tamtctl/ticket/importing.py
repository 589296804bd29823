"""Making tickets of the masks of other programs.

Sources are ``mask.pt`` of the paper's code and of BERT-Tickets, checkpoints made with
``torch.nn.utils.prune``, and any checkpoint with zeros where the base model has none.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from tamtctl.foundations.checks import one_of
from tamtctl.foundations.errors import ModelError, UsageError
from tamtctl.foundations.folders import check_target
from tamtctl.foundations.masks import keep_count
from tamtctl.foundations.paths import expanded
from tamtctl.foundations.public_names import public, public_model
from tamtctl.foundations.shown import Shown
from tamtctl.foundations.torch_state import usual_torch
from tamtctl.models.checkpoint_files import CheckpointFiles
from tamtctl.models.declared_base import DeclaredBase
from tamtctl.models.encoder import Encoder, fingerprint, maskable_matrices
from tamtctl.models.files import CONFIG_FILE
from tamtctl.models.heads import HEADS, NONE
from tamtctl.models.loading import load_encoder, load_with_head
from tamtctl.ticket.base_model import recode
from tamtctl.ticket.foreign_masks import find_masks, names_all
from tamtctl.ticket.format.mask_codec import ENCODINGS
from tamtctl.ticket.format.metadata import METADATA_FILE
from tamtctl.ticket.hub.card import as_published
from tamtctl.ticket.hub.names import DECLARED, IMPORTED_FROM
from tamtctl.ticket.ticket import Ticket

IMPORTED = "imported"  # the method of masks of which nothing else is said
TICKET = "ticket"  # the kind of content of a source that is a ticket


@dataclass(frozen=True, repr=False)
class ImportResult(Shown):
    """The result of an import.

    Attributes:
        ticket: The folder of the new ticket.
        kind: The kind of content: masks, a pruned checkpoint, the zeros of one, or a ticket.
        sparsity: Share of zeros in the masked matrices.
        matrices: Number of masked matrices.
        dense: Maskable matrices of the model that the source does not mask.
        ignored: How many tensors of the source belong to no maskable matrix.
        prefix: The first part of the encoder's parameter names in the source.
        other_prefixes: Prefixes of further encoders in the source: copies with the same zeros, or
            those that were not chosen.
        file: The file of the source folder that was read, or the index of several.
        not_read: Other files of the folder that look like weights.
        base_model: A remark on the base model that was declared; None without one.
        remark: A doubt that the source was made from this model; None if there is none.
        encoding: The encoding of the masks.
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


@usual_torch()
def import_ticket(
    source: Path | str,
    output_dir: Path | str,
    *,
    model: Path | str | None = None,
    revision: str | None = None,
    method: str = IMPORTED,
    prefix: str | None = None,
    encoding: str = "bits",
    base_model: str | None = None,
) -> ImportResult:
    """Make a ticket of another program's masks, or recode a ticket.

    Args:
        source: A ``.pt``, ``.bin`` or ``.safetensors`` file, or a checkpoint's or ticket's folder.
        output_dir: The folder of the new ticket; new or empty, or that of a ticket to recode.
        model: The pre-trained model that the masks belong to; not needed for a ticket.
        revision: Branch, tag or commit of the model on the Hub.
        method: How the masks were found, for the record.
        prefix: The first part of the encoder's parameter names, if the source holds several.
        encoding: ``bits``, ``zstd`` or ``delta``.
        base_model: Hub id ``org/name[@revision]`` of the model that the folder ``model`` holds.

    Raises:
        UsageError: The model is missing, or the prefix that chooses one of several encoders is; or
            an option does not apply to a ticket.
        ModelError: The model cannot be loaded.
        TicketError: The source cannot be read, or holds no masks for this model.

    Example:
        >>> made = tamtctl.import_ticket("my-sparse-model", "my-imported", model="nano")
        >>> made.kind, round(made.sparsity, 3)
        ('zeros of a checkpoint', 0.7)
    """
    one_of("encoding", encoding, ENCODINGS)
    path, output_dir = expanded(source), expanded(output_dir)
    check_target(output_dir, METADATA_FILE if output_dir == path else None)
    model = None if model is None else str(model)
    if (path / METADATA_FILE).exists():
        unfit = {"method": method != IMPORTED, "revision": revision, "prefix": prefix}
        if told := next((name for name, value in unfit.items() if value), None):
            raise UsageError(f"{source} is a ticket, which keeps what it says; leave --{told} out")
        return _recoded(path, output_dir, encoding, model, base_model)
    if model is None:
        raise UsageError("--model is needed: the pre-trained model that the masks belong to")
    if base_model is not None and public_model(model)[0] == model:
        raise UsageError(f"--base-model is for a --model in a local folder, and {model!r} is none")
    files = CheckpointFiles.find(path)
    tensors = files.read()
    encoder = load_encoder(model, with_head=False, revision=revision)
    found = find_masks(_as_in_memory(tensors, path, encoder), encoder, str(source), prefix)
    masks = found.masks
    weights = {name: weight for name, weight in encoder.weights.items() if name in masks}
    declared = base_model and DeclaredBase.of(base_model, fingerprint(weights)[1])
    search = {IMPORTED_FROM: public(str(source)), "kind": found.kind}
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


def _as_in_memory(
    tensors: Mapping[str, Tensor], path: Path, encoder: Encoder
) -> Mapping[str, Tensor]:
    """Return a checkpoint's tensors by their names in memory, where these are others than saved."""
    if not (path / CONFIG_FILE).is_file() or names_all(tensors, encoder):
        return tensors
    with suppress(ModelError):
        network, missing, _ = load_with_head(HEADS[NONE], str(path))
        matrices = maskable_matrices(network)
        return {n: p.detach() for n, p in matrices.items() if n not in missing}
    return tensors


def _recoded(
    path: Path, output_dir: Path, encoding: str, model: str | None, base_model: str | None
) -> ImportResult:
    """Make a ticket of a ticket, with another encoding or with a declared base model."""
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
    """Return target sparsity and allocation of masks, guessed from the numbers of kept weights."""
    total = sum(mask.numel() for mask in masks.values())
    measured = 1 - sum(int(mask.sum()) for mask in masks.values()) / total
    aimed = round(measured, 3)
    uniform = all(int(m.sum()) == keep_count(m.numel(), aimed) for m in masks.values())
    return {
        "target_sparsity": aimed if uniform else measured,
        "allocation": "uniform" if uniform else "free",
    }
