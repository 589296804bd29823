"""The class `Ticket`: the binary mask of a pre-trained encoder, with its metadata.

    ticket = Ticket.from_pretrained("nano-0.8")        # a folder or a packaged name
    model = AutoModelForSequenceClassification.from_pretrained(..., dtype=torch.float32)
    ticket.apply(model, keep=True)    # zeroes the pruned weights in place; training keeps them

`tamtctl.ticket.format.metadata` describes the folder of a ticket. Only functions that take a tensor
or a model import torch or transformers, so that looking at a ticket needs neither.
"""

from __future__ import annotations

import importlib.metadata
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from tamtctl.foundations.errors import TicketError
from tamtctl.foundations.folders import replacing, write_to_disk
from tamtctl.foundations.masks import count_kept, pack
from tamtctl.foundations.paths import expanded
from tamtctl.foundations.public_names import (
    LOCAL_FILE,
    LocalPaths,
    public_model,
    public_search,
)
from tamtctl.ticket.finding import resolve_ticket
from tamtctl.ticket.format.head_format import check_head
from tamtctl.ticket.format.metadata import (
    CARD_FILE,
    METADATA_FILE,
    TICKET_FILES,
    BaseModel,
    ParameterEntry,
)
from tamtctl.ticket.format.patterns import UNSTRUCTURED
from tamtctl.ticket.format.reader import Check, TicketReader
from tamtctl.ticket.stored import StoredTicket

if TYPE_CHECKING:
    from torch import Tensor

    from tamtctl.ticket.applying import Applied
    from tamtctl.ticket.keeping import KeptZeros
    from tamtctl.ticket.sharing import PushResult


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class Ticket(StoredTicket):
    """The masks of every maskable matrix of one pre-trained encoder, and their metadata.

    Make one with `create`, `load` or `from_pretrained`; `dataclasses.replace` gives a copy with
    other metrics. With the encoding ``delta``, the masks are known only together with the base
    model's weights: `apply` takes these from the model, and `decode` as an argument. The attributes
    are those of `tamtctl.ticket.stored.StoredTicket`.

    Example:
        >>> model = AutoModel.from_pretrained(tamtctl.nano_path(), dtype=torch.float32)
        >>> ticket = tamtctl.Ticket.from_pretrained("nano-0.7")
        >>> ticket.apply(model, keep=True).kept
        <KeptZeros: 1,284,505 zeros of 1,835,008 weights in 25 matrices, kept>
        >>> ticket.save_pretrained("my-ticket")
    """

    @classmethod
    def create(
        cls,
        weights: Mapping[str, Tensor],
        masks: Mapping[str, Tensor],
        *,
        base_model_id: str,
        revision: str | None,
        model_type: str,
        target_sparsity: float,
        method: str,
        objective: str | None,
        search: Mapping[str, Any],
        metrics: Mapping[str, Any],
        mlm_head: Mapping[str, Tensor] | None = None,
        allocation: str = "uniform",
        pattern: str = UNSTRUCTURED,
        declared: tuple[str, str | None] | None = None,
        checksums: Mapping[str, str] | None = None,
    ) -> Self:
        """Make a ticket of boolean masks over pre-trained weights.

        The metadata have only the last part of the paths of local folders and files; see
        `tamtctl.foundations.public_names`.

        Args:
            weights: Name → pre-trained weight W of every masked matrix.
            masks: Name → boolean mask of the same shape; True keeps.
            base_model_id: Hub id or folder of the checkpoint, or ``nano``.
            revision: The Hub commit of the checkpoint; None for a folder.
            model_type: The name of its architecture in transformers, such as ``bert``.
            target_sparsity: The share of zeros that was asked for.
            method: The method that found the masks.
            objective: What they were trained for; None without training.
            search: The whole configuration of the search, as plain JSON values.
            metrics: The measurements, as plain JSON values.
            mlm_head: The masked-LM head that was trained with the mask, to be part of the ticket.
            allocation: ``uniform`` if every matrix has the same sparsity, else ``free``.
            pattern: The sparsity pattern of the masks; see `tamtctl.ticket.format.patterns`.
            declared: Hub id and revision that the user states for the model in a local folder.
            checksums: Name → SHA-256 of each weight, if it was computed before.

        Raises:
            TicketError: Masks do not fit the weights or lack the pattern, or a value cannot be
                written as JSON.
        """
        from tamtctl.models.encoder import fingerprint

        _check_masks(weights, masks)
        base_fingerprint, hashes = fingerprint(weights, checksums)
        packed = {name: pack(masks[name].numpy(force=True)) for name in weights}
        public_id, commit = declared or public_model(base_model_id)
        ticket = cls(
            base_model=BaseModel(public_id, revision or commit, model_type, base_fingerprint),
            target_sparsity=target_sparsity,
            method=method,
            objective=objective,
            allocation=allocation,
            pattern=pattern,
            search=public_search(search),
            metrics=dict(metrics),
            parameters={
                name: ParameterEntry(tuple(w.shape), count_kept(packed[name]), hashes[name])
                for name, w in weights.items()
            },
            encoding="bits",
            tamtctl_version=importlib.metadata.version("tamtctl"),
            created=datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z"),
            stored=packed,
            mlm_head=None if mlm_head is None else _independent(mlm_head, weights),
            places=LocalPaths.of(base_model_id, search),
        )
        ticket.to_json({})  # raises if a value cannot be written
        ticket.with_checked_pattern()
        return ticket

    @classmethod
    def from_pretrained(
        cls, name: Path | str, *, revision: str | None = None, token: str | None = None
    ) -> Self:
        """Load a ticket by its folder, packaged name or Hub id.

        Args:
            name: A folder, a packaged name or a Hub id, tried in this order; a Hub id may end in
                ``@revision``.
            revision: Branch, tag or commit on the Hub.
            token: For a private ticket; by default the one of `hf auth login` or ``HF_TOKEN``.

        Raises:
            TicketError: There is no such ticket, or `load` refuses it.
            HubError: The Hub refuses the request or cannot be reached, and no copy is in the cache.
        """
        return cls.load(resolve_ticket(name, revision=revision, token=token).path)

    @staticmethod
    def verify(folder: Path | str) -> list[Check]:
        """Return the checks of a ticket folder with their results.

        `load` accepts the folder if and only if no check failed.
        """
        return TicketReader(Path(folder)).checks()

    def save_pretrained(self, folder: Path | str) -> None:
        """Write the ticket's folder; an existing ticket there is replaced.

        Files of that folder that do not belong to the format are kept.

        Raises:
            TicketError: The folder holds something else, or cannot be written.
        """
        from tamtctl.ticket.hub.card import card
        from tamtctl.ticket.licence import base_licence

        text = card(self, base_license=base_licence(self))
        files = self.files() | {CARD_FILE: text.encode()}
        if local := self.places.to_json(expanded(folder), self.base_model.fingerprint):
            files[LOCAL_FILE] = local.encode()
        with replacing(folder, METADATA_FILE, (*TICKET_FILES, LOCAL_FILE)) as new:
            for name, content in files.items():
                write_to_disk(new / name, content)

    def push_to_hub(self, repo: str, **options: Any) -> PushResult:
        """Publish the ticket on the Hub; options, result and errors are those of `tamtctl.push`.

        Raises:
            HubError: The Hub refuses the request or cannot be reached.
        """
        from tamtctl.ticket.sharing import push

        with tempfile.TemporaryDirectory() as folder:
            self.save_pretrained(folder)
            return push(folder, repo, **options)

    def apply(self, model: object, *, keep: bool = False) -> Applied:
        """Set the pruned weights of a pre-trained model to zero, in place: W ← W ⊙ m.

        A masked-LM decoder that is tied to the word embeddings gets a dense copy of its own, as
        TAMT masks only the look-up. ``config.tie_word_embeddings`` becomes False, so that saving
        and loading keeps both. Make the optimiser afterwards, so that it trains both.

        Args:
            model: The bare encoder or one with any head; it may be inside a SentenceTransformer, a
                CrossEncoder, a pipeline or a module of your own, and wrapped by `torch.compile` or
                DistributedDataParallel. Of several models inside, the one that the ticket is for is
                taken.
            keep: Keep the zeros while the model is trained, with any optimiser, made before or
                after this. Without it, the first step of training fills them in.

        Raises:
            TicketError: The model does not hold all weights that the mask was found for, in
                float32, or is of a kind that a ticket cannot be applied to. It is then untouched.
        """
        from tamtctl.ticket import applying

        return applying.apply(self, model, keep=keep)

    def keep(self, model: object) -> KeptZeros:
        """Keep the zeros of a model that this ticket was applied to before.

        The model is a fine-tuned or exported checkpoint, in any precision. For pre-trained weights,
        use `apply` with ``keep=True``.

        Args:
            model: As for `apply`.

        Raises:
            TicketError: A pruned weight is not zero, the model is of a kind that a ticket cannot be
                applied to, or the masks are encoded as ``delta``.
        """
        from tamtctl.ticket import applying

        return applying.keep(self, model)

    def is_applied_to(self, model: object) -> bool:
        """Return whether the pruned weights of a model are zero, as `keep` requires.

        Raises:
            TicketError: The model is of a kind that a ticket cannot be applied to, or the masks are
                encoded as ``delta``.
        """
        from tamtctl.ticket import applying

        return applying.is_applied(self, model)


def _check_masks(weights: Mapping[str, Tensor], masks: Mapping[str, Tensor]) -> None:
    import torch

    if odd := sorted(weights.keys() ^ masks.keys()):
        raise TicketError(f"{odd[0]} has {'no mask' if odd[0] in weights else 'no weight'}")
    if not weights:
        raise TicketError("a ticket needs at least one masked matrix")
    for name, mask in masks.items():
        if mask.dtype != torch.bool or mask.shape != weights[name].shape:
            wanted = list(weights[name].shape)
            raise TicketError(
                f"the mask of {name} is {mask.dtype} of shape {list(mask.shape)}; "
                f"it must be torch.bool of shape {wanted}"
            )


def _independent(tensors: Mapping[str, Tensor], weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return copies of parameters; none shares memory, which safetensors could not store."""
    import torch

    from tamtctl.ticket.heads import raw_head

    check_head(raw_head(tensors), {name: weight.shape for name, weight in weights.items()})
    return {
        name: t.detach().cpu().clone(memory_format=torch.contiguous_format)
        for name, t in tensors.items()
    }
