"""A ticket: the binary mask of a pre-trained encoder, with what it is and where it comes from.

    ticket = Ticket.from_pretrained("nano-0.8")        # a folder or a packaged name
    model = AutoModelForSequenceClassification.from_pretrained(..., dtype=torch.float32)
    ticket.apply(model, keep=True)    # zeroes the pruned weights in place; training keeps them

The folder it is saved in is described in `tamtctl.ticket.format.metadata`. Torch and transformers
are imported where a model or a tensor is at hand, so that looking at a ticket takes neither.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import os
import re
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self

import numpy as np
import safetensors.numpy
from numpy.typing import NDArray

from tamtctl.foundations.errors import HubError, ModelError, NoTicketError, TicketError
from tamtctl.foundations.folders import replacing, write_to_disk
from tamtctl.foundations.packing import count_kept, pack
from tamtctl.foundations.paths import expanded
from tamtctl.foundations.public_names import (
    LOCAL_FILE,
    Places,
    public_model,
    public_search,
    texts_of,
)
from tamtctl.foundations.untrusted import Defect, show
from tamtctl.ticket.format.head_format import check_head
from tamtctl.ticket.format.mask_codec import (
    ENCODINGS,
    Mask,
    Stored,
    decode_mask,
    encode_mask,
    packed_chunks,
    repacked,
)
from tamtctl.ticket.format.metadata import (
    CARD_FILE,
    HEAD_FILE,
    MASK_FILE,
    METADATA_FILE,
    TICKET_FILES,
    BaseModel,
    Check,
    ParameterEntry,
    TicketMetadata,
    TicketReader,
)

if TYPE_CHECKING:
    from torch import Tensor

    from tamtctl.ticket.hub.sharing import PushResult
    from tamtctl.ticket.keeping import KeptZeros


_BEFORE_TRAINING = "apply the ticket to that checkpoint, before fine-tuning or masking it"


@dataclass(frozen=True)
class Applied:
    """What applying a ticket did to a model.

    Attributes:
        applied: Names of the matrices whose pruned weights are now zero.
        skipped: Matrices of the ticket that the model does not have: the pooler's, if any.
        unmasked: Maskable matrices of the model that the ticket does not cover, left as they were.
        untied: Parameters that shared memory with another one and now have a copy of their own: the
            masked-LM decoder, which stays dense.
        kept: With ``keep=True``, the zeros that stay whatever trains the model; its `release` lets
            them go.
    """

    applied: tuple[str, ...]
    skipped: tuple[str, ...]
    unmasked: tuple[str, ...]
    untied: tuple[str, ...]
    kept: KeptZeros | None = None


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class Ticket(TicketMetadata):
    """The masks of every maskable matrix of one pre-trained encoder, and their metadata.

    Make one with `create`, `load` or `from_pretrained`; `dataclasses.replace` gives a copy with
    other metrics. With the encoding ``delta`` the masks are known only together with the base
    model's weights: `apply` takes them from the model, and `decode` takes them as they are.

    Attributes:
        stored: Name → mask as bytes in the ticket's encoding, a numpy array; see
            `tamtctl.ticket.format.mask_codec`.
        mlm_head: The masked-LM head that was trained with the mask, name → tensor; None if it is
            not part of the ticket.
        places: Where on this machine is what the metadata call by names for everybody.
    """

    stored: Mapping[str, Stored] = field(repr=False)
    mlm_head: Mapping[str, Tensor] | None = field(default=None, repr=False)
    places: Places = field(default_factory=Places, repr=False)

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
        declared: tuple[str, str | None] | None = None,
    ) -> Self:
        """Make a ticket of boolean masks over pre-trained weights.

        Its metadata name local folders and files by their last part alone; see
        `tamtctl.foundations.public_names`.

        Args:
            weights: Name → pre-trained weight W of every masked matrix.
            masks: Name → boolean mask of the same shape; True keeps.
            base_model_id: Hub id or folder of the checkpoint, or ``nano``.
            revision: Its Hub commit; None for a folder.
            model_type: Its architecture in transformers.
            target_sparsity: The share of zeros that was asked for.
            method: How the masks were found.
            objective: What they were trained for; None if for nothing.
            search: The whole configuration of the search, as plain JSON values.
            metrics: What was measured, as plain JSON values.
            mlm_head: The head that was trained along, if it shall be part of the ticket.
            allocation: ``uniform`` if every matrix has the same sparsity, else ``free``.
            declared: Hub id and revision of the model that a local folder holds.

        Raises:
            TicketError: Masks do not fit the weights, or a value cannot be written as JSON.
        """
        from tamtctl.models.loading import fingerprint

        _check_masks(weights, masks)
        base_fingerprint, hashes = fingerprint(weights)
        packed = {name: pack(masks[name].numpy(force=True)) for name in weights}
        public_id, commit = declared or public_model(base_model_id)
        ticket = cls(
            base_model=BaseModel(public_id, revision or commit, model_type, base_fingerprint),
            target_sparsity=target_sparsity,
            method=method,
            objective=objective,
            allocation=allocation,
            search=public_search(search),
            metrics=dict(metrics),
            parameters={
                name: ParameterEntry(tuple(w.shape), count_kept(packed[name]), hashes[name])
                for name, w in weights.items()
            },
            encoding="bits",
            tamtctl_version=_own_version(),
            created=datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z"),
            stored=packed,
            mlm_head=None if mlm_head is None else _independent(mlm_head, weights),
            places=Places.of(base_model_id, search),
        )
        ticket.to_json({})  # raises now, not after hours of search
        return ticket

    @classmethod
    def load(cls, folder: Path | str) -> Self:
        """Load a ticket folder and verify all of it: shapes, sizes, checksums, spare bits, counts.

        Raises:
            TicketError: It is no ticket, is damaged, or was made by a newer tamtctl.
        """
        reader = TicketReader(Path(folder))
        reader.read()
        metadata = {f.name: getattr(reader.metadata, f.name) for f in fields(TicketMetadata)}
        places = Places.read(reader.folder, reader.metadata.base_model.fingerprint)
        return cls(**metadata, stored=reader.stored, mlm_head=reader.mlm_head, places=places)

    @classmethod
    def from_pretrained(
        cls, name: Path | str, *, revision: str | None = None, token: str | None = None
    ) -> Self:
        """Load a ticket by the path of its folder, the name of a packaged one, or its Hub id.

        Args:
            name: Looked for in that order; a Hub id may end in ``@revision``.
            revision: Branch, tag or commit on the Hub.
            token: For a private ticket; by default the one of `hf auth login` or ``HF_TOKEN``.

        Raises:
            TicketError: There is no such ticket, or `load` refuses it.
            HubError: The Hub refuses it or cannot be reached, and it was not fetched before.
        """
        return cls.load(resolve_ticket(name, revision=revision, token=token).path)

    @staticmethod
    def verify(folder: Path | str) -> list[Check]:
        """Return what verifying a ticket folder found, check by check.

        None of them failed if and only if `load` accepts the folder.
        """
        return TicketReader(Path(folder)).checks()

    def save_pretrained(self, folder: Path | str) -> None:
        """Write the ticket's folder; an existing ticket there is replaced as a whole.

        Files in it that are not the format's own are kept.

        Raises:
            TicketError: The folder holds something else, or cannot be written.
        """
        from tamtctl.ticket.hub.card import card

        files = self.files() | {CARD_FILE: card(self).encode()}
        if local := self.places.to_json(expanded(folder), self.base_model.fingerprint):
            files[LOCAL_FILE] = local.encode()
        with replacing(folder, METADATA_FILE, (*TICKET_FILES, LOCAL_FILE)) as new:
            for name, content in files.items():
                write_to_disk(new / name, content)

    def files(self) -> dict[str, bytes]:
        """Return name → content of the files of the ticket's folder, all but the card."""
        files = {MASK_FILE: safetensors.numpy.save(dict(self.stored))}
        if self.mlm_head is not None:
            from safetensors.torch import save

            files[HEAD_FILE] = save(dict(self.mlm_head))
        return files | {METADATA_FILE: self.to_json(files).encode()}

    def find_base(self) -> tuple[str, str | None]:
        """Return name and revision of the base model, to load it by on this machine.

        Raises:
            ModelError: It was in a local folder that is not there.
        """
        return locate_base(self.base_model, self.places)

    def texts(self, name: str) -> tuple[str, ...]:
        """Return the texts of a search, to read them by on this machine.

        Args:
            name: ``corpus``, ``held_out`` or ``check_corpus``.
        """
        if name in self.places.texts:
            return self.places.texts[name]
        return texts_of(self.search, name)

    def push_to_hub(self, repo: str, **options: Any) -> PushResult:
        """Publish the ticket on the Hub; the options are those of `tamtctl.push`.

        Raises:
            HubError: The Hub refuses it or cannot be reached.
        """
        from tamtctl.ticket.hub.sharing import push

        with tempfile.TemporaryDirectory() as folder:
            self.save_pretrained(folder)
            return push(folder, repo, **options)

    def mask(self, name: str) -> Tensor:
        """Return one boolean mask, of the shape of its weight; True keeps.

        Raises:
            TicketError: It is encoded as ``delta``; `decode` the ticket first.
        """
        self._refuse_delta()
        return _tensor(self.decoded(name, None))

    def decoded(self, name: str, weight: NDArray[Any] | None = None) -> Mask:
        """Return one mask as a numpy array, which takes no torch.

        Args:
            name: Of the matrix.
            weight: Its pre-trained weight in float32, which was checked; ``delta`` needs it.

        Raises:
            TicketError: It is damaged.
        """
        entry = self.parameters[name]
        try:
            return decode_mask(self.stored[name], self.encoding, entry.shape, entry.kept, weight)
        except Defect as defect:
            raise TicketError(f"the mask of {name} is damaged: {defect}") from defect

    def _refuse_delta(self) -> None:
        if self.encoding == "delta":
            raise TicketError(
                "the masks are stored as what differs from the magnitude masks of "
                f"{self.base_line}; decode(weights) gives the ticket with masks of its own"
            )

    def packed_mask(self, name: str) -> Iterator[NDArray[np.uint8]]:
        """Yield one mask as packed bits, a megabyte at a time; see `tamtctl.foundations.packing`.

        Raises:
            TicketError: It is encoded as ``delta``; `decode` the ticket first.
        """
        self._refuse_delta()
        try:
            yield from packed_chunks(self.stored[name], self.encoding, self.parameters[name].numel)
        except Defect as defect:
            raise TicketError(f"the mask of {name} is damaged: {defect}") from defect

    def encode(self, encoding: str, weights: Mapping[str, Tensor] | None = None) -> Self:
        """Return this ticket in another encoding.

        Args:
            encoding: ``bits``; ``zstd``; or ``delta``, which becomes ``zstd`` where the difference
                to the magnitude masks is no smaller than the masks.
            weights: Name → pre-trained weight of every matrix; to or from ``delta`` needs them.

        Raises:
            TicketError: They are needed and missing, or not the ones that the masks belong to.
        """
        if encoding not in ENCODINGS:
            raise TicketError(f"no encoding {show(encoding)}; there are {', '.join(ENCODINGS)}")
        if encoding == self.encoding:
            return self
        weights = weights or {}
        if "delta" not in (encoding, self.encoding):
            packed = {n: self._repacked(n) for n in self.parameters}
            return replace(self, encoding=encoding, stored=packed)
        if "delta" in (encoding, self.encoding):
            if absent := [name for name in self.parameters if name not in weights]:
                raise TicketError(
                    f"the weight of {absent[0]} is missing; this takes those of {self.base_line}"
                )
            self.check_weights(weights)
        candidates = ("delta", "zstd") if encoding == "delta" else (encoding,)
        stored: dict[str, dict[str, Stored]] = {candidate: {} for candidate in candidates}
        for name in self.parameters:
            weight = _array(weights[name]) if name in weights else None
            mask = self.decoded(name, weight)
            for candidate, masks in stored.items():
                masks[name] = encode_mask(mask, candidate, weight)
        smallest = min(stored, key=lambda candidate: sum(map(len, stored[candidate].values())))
        return replace(self, encoding=smallest, stored=stored[smallest])

    def decode(self, weights: Mapping[str, Tensor]) -> Self:
        """Return this ticket with one bit per weight, whatever its encoding.

        Args:
            weights: Name → pre-trained weight of every matrix.

        Raises:
            TicketError: They are not the weights that the masks belong to; see `check_weights`.
        """
        if self.encoding != "delta":  # which checks them itself
            self.check_weights(weights)
        return self.encode("bits", weights)

    def full_masks(
        self, weights: Mapping[str, Tensor], *, model: str | None = None, remedy: str | None = None
    ) -> dict[str, Tensor]:
        """Return a mask for every matrix of a model; those that the ticket does not cover keep all.

        Args:
            weights: Name → pre-trained weight of every maskable matrix of the model.
            model: As in `check_weights`, which this does first.
            remedy: The same.

        Raises:
            TicketError: They are not the weights that the masks belong to.
        """
        self.check_weights(weights, model=model, remedy=remedy)
        import torch

        known = self.masks_over({n: w for n, w in weights.items() if n in self.parameters})
        return {
            name: known.mask(name)
            if name in self.parameters
            else torch.ones_like(weight, dtype=torch.bool)
            for name, weight in weights.items()
        }

    @property
    def masks_digest(self) -> bytes:
        """A digest of the masks as they are encoded: that of equal ones with one bit per weight."""
        digest = hashlib.sha256()
        for name in sorted(self.stored):
            digest.update(name.encode() + b"\n")
            digest.update(self.stored[name].tobytes())
        return digest.digest()

    @property
    def stored_bytes(self) -> int:
        """Size of the masks as they are encoded."""
        return sum(stored.size for stored in self.stored.values())

    def _repacked(self, name: str) -> Stored:
        try:
            return repacked(self.stored[name], self.encoding, self.parameters[name].numel)
        except Defect as defect:
            raise TicketError(f"the mask of {name} is damaged: {defect}") from defect

    def masks_over(self, weights: Mapping[str, Tensor]) -> Self:
        """Return this ticket with the masks of some matrices known, as bits if they were not.

        All are decoded before a weight changes, so that damage leaves a model untouched.
        """
        if self.encoding != "delta":
            return self
        masks = {name: pack(self.decoded(name, _array(w))) for name, w in weights.items()}
        return replace(self, encoding="bits", stored=masks)

    def check_weights(
        self, weights: Mapping[str, Tensor], *, model: str | None = None, remedy: str | None = None
    ) -> tuple[str, ...]:
        """Check that a model holds the weights that the masks were found for.

        Looked at are the matrices that the ticket covers, and no others: a ticket of the linear
        layers alone is at home in any model that holds these.

        Args:
            weights: Name → pre-trained weight of every maskable matrix of the model.
            model: What to call the model in an error.
            remedy: What to do instead, for an error about other weights.

        Returns:
            The matrices of the ticket that the model does not have: the pooler's, if any.

        Raises:
            TicketError: A matrix is missing, has another form, or holds other weights.
        """
        from tamtctl.models.loading import sha256_of_weight

        missing = self.check_shapes(weights, model=model, remedy=remedy)
        called = _called(model)
        present = {name: weights[name] for name in self.parameters if name in weights}
        for weight in present.values():
            self._check_precision(weight, called)
        for name, weight in present.items():
            if sha256_of_weight(weight) != self.parameters[name].sha256:
                raise TicketError(
                    f"{name} of {called} does not hold the pre-trained weights of "
                    f"{self.base_line}; {remedy or _BEFORE_TRAINING}"
                )
        return missing

    def check_shapes(
        self, weights: Mapping[str, Tensor], *, model: str | None = None, remedy: str | None = None
    ) -> tuple[str, ...]:
        """Check that a model has the matrices that the ticket covers, in their shapes.

        Args, what is returned, and what is raised are those of `check_weights`.
        """
        called = _called(model)
        other = f"this ticket is for {self.base_line}" + (f": {remedy}" if remedy else "")
        missing = tuple(name for name in self.parameters if name not in weights)
        if strange := [name for name in missing if not _is_pooler(name)]:
            raise TicketError(f"{called} has no matrix {strange[0]}; {other}")
        for name, entry in self.parameters.items():
            if name in weights:
                _check_form(name, weights[name], entry.shape, called, other)
        return missing

    @property
    def masks(self) -> Mapping[str, Tensor]:
        """Name → boolean mask; each is unpacked when it is asked for."""
        return _Masks(self)

    def apply(self, model: object, *, keep: bool = False) -> Applied:
        """Set the pruned weights of a pre-trained model to zero, in place: W ← W ⊙ m.

        A masked-LM decoder that is tied to the word embeddings gets a dense copy of its own, and
        ``config.tie_word_embeddings`` becomes False, so that saving and loading the model keeps
        both (TAMT masks only the look-up); make the optimiser afterwards, so that it trains both.

        Args:
            model: The bare encoder or one with any head; it may be inside a SentenceTransformer, a
                CrossEncoder, a pipeline or a module of your own, and wrapped by `torch.compile` or
                DistributedDataParallel. Of several models inside, it is the one that the ticket is
                for.
            keep: Keep the zeros while the model is trained, with any optimiser, made before or
                after this. Without it, the first step of training fills them in.

        Raises:
            TicketError: The model does not hold the weights that the mask was found for, all of
                them and in float32, or is nothing that a ticket applies to. It is then untouched.
        """
        from tamtctl.ticket import applying

        return applying.apply(self, model, keep=keep)

    def keep(self, model: object) -> KeptZeros:
        """Keep the zeros of a model that this ticket was applied to before.

        That is, of a fine-tuned or exported checkpoint, in any precision; for pre-trained weights
        it is `apply` with ``keep=True``.

        Args:
            model: As for `apply`.

        Raises:
            TicketError: A pruned weight is not zero, or the model is nothing that a ticket applies
                to, or the masks are encoded as ``delta``.
        """
        from tamtctl.ticket import applying

        return applying.keep(self, model)

    def is_applied_to(self, model: object) -> bool:
        """Whether the pruned weights of a model are zero, as `keep` wants them.

        Raises:
            TicketError: The model is nothing that a ticket applies to, or the masks are encoded as
                ``delta``.
        """
        from tamtctl.ticket import applying

        return applying.is_applied(self, model)

    @property
    def base_line(self) -> str:
        """What the ticket is for, as errors call it."""
        revision = f" at revision {self.base_model.revision}" if self.base_model.revision else ""
        return f"{self.base_model.id} ({self.base_model.model_type}){revision}"

    def _check_precision(self, weight: Tensor, called: str) -> None:
        import torch

        if weight.dtype not in (torch.float32, torch.float64):
            raise TicketError(
                f"{called} is in {str(weight.dtype).removeprefix('torch.')}, in which its "
                "weights cannot be verified; load it with dtype=torch.float32, cast it afterwards"
            )


class _Masks(Mapping[str, "Tensor"]):
    """A ticket's masks, unpacked one at a time: unpacked, a mask takes eight times the memory."""

    def __init__(self, ticket: Ticket) -> None:
        self._ticket = ticket

    def __getitem__(self, name: str) -> Tensor:
        return self._ticket.mask(name)

    def __iter__(self) -> Iterator[str]:
        return iter(self._ticket.parameters)

    def __len__(self) -> int:
        return len(self._ticket.parameters)


@dataclass(frozen=True)
class ResolvedTicket:
    """Where a ticket that was asked for by name is, and what kind of name it was."""

    path: Path
    kind: Literal["path", "packaged", "hub"]


# As the Hub's: no more than that may be asked for, so that a mistyped path does not go there.
_HUB_NAME = re.compile(r"(?P<repo>\w[\w.-]*/\w[\w.-]*)(@(?P<revision>\w[\w./-]*))?", re.ASCII)


def resolve_ticket(
    name: Path | str, *, revision: str | None = None, token: str | None = None
) -> ResolvedTicket:
    """Find a ticket: an existing path comes first, then a packaged name, then a Hub id.

    A ticket of the Hub is fetched into the Hub's cache unless it is there already.

    Args:
        name: A folder, a packaged name, ``org/name`` or ``org/name@revision``.
        revision: Branch, tag or commit on the Hub; a local ticket has none.
        token: For a private ticket on the Hub.

    Raises:
        TicketError: It is none of them.
        HubError: The Hub refuses it or cannot be reached, and it was not fetched before.
    """
    path = expanded(name)
    if os.path.isdir(path):  # noqa: PTH112, Path.is_dir raises for a name that is too long
        if _exists(path / "ticket" / METADATA_FILE) and not _exists(path / METADATA_FILE):
            raise TicketError(f"{str(name)!r} is a run; its ticket is {str(path / 'ticket')!r}")
        return ResolvedTicket(path, "path")
    packaged = packaged_tickets()
    if str(name) in packaged:
        return ResolvedTicket(packaged[str(name)], "packaged")
    if _exists(path):
        raise NoTicketError(f"{str(name)!r} is a file; give the folder of a ticket")
    if match := _HUB_NAME.fullmatch(str(name)):
        from tamtctl.ticket.hub.sharing import pull

        wanted = revision or match["revision"]
        try:
            return ResolvedTicket(pull(match["repo"], revision=wanted, token=token).path, "hub")
        except HubError as error:
            raise HubError(f"no folder {str(name)!r} here, and {error}") from error
    known = ", ".join(packaged) or "none"
    raise NoTicketError(f"no ticket {show(str(name))}: no such folder, and packaged are: {known}")


def locate_base(base: BaseModel, places: Places) -> tuple[str, str | None]:
    """Return name and revision of a ticket's base model, to load it by on this machine.

    Raises:
        ModelError: It was in a local folder that is not there.
    """
    if places.model is not None and _exists(expanded(places.model)):
        return places.model, None
    is_local = base.revision is None and base.id != "nano" and "/" not in base.id
    if is_local and not _exists(Path(base.id)):
        was = f" ({show(places.model)} is gone)" if places.model else ""
        raise ModelError(
            f"the ticket is for a model in a folder called {show(base.id)}{was}; "
            "give that folder with --model"
        )
    return base.id, base.revision


def _exists(path: Path) -> bool:
    """Whether a path exists; other than ``Path.exists``, False for what cannot be looked at."""
    return os.path.exists(path)  # noqa: PTH110


def shelf() -> Path:
    """Return the folder of the packaged tickets: inside the package, or beside it in a checkout."""
    package = Path(__file__).parents[1]
    installed = package / "tickets"
    return installed if installed.is_dir() else package.parent / "tickets"


def packaged_tickets() -> dict[str, Path]:
    """Return name → folder of the tickets that come with tamtctl, by name."""
    return {path.parent.name: path.parent for path in sorted(shelf().glob(f"*/{METADATA_FILE}"))}


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
    """Copy a live model's parameters; none shares memory, which safetensors could not store."""
    import torch

    from tamtctl.ticket.heads import raw_head

    check_head(raw_head(tensors), {name: weight.shape for name, weight in weights.items()})
    return {
        name: t.detach().cpu().clone(memory_format=torch.contiguous_format)
        for name, t in tensors.items()
    }


def _own_version() -> str:
    try:
        return importlib.metadata.version("tamtctl")
    except importlib.metadata.PackageNotFoundError:  # run from a checkout that is not installed
        return "unknown"


def _tensor(mask: Mask) -> Tensor:
    import torch

    return torch.from_numpy(mask)


def _array(weight: Tensor) -> NDArray[Any]:
    """Return a weight as the masks are computed from it, in float32 on the CPU."""
    import torch

    return weight.detach().to("cpu", torch.float32).numpy()


def _is_pooler(name: str) -> bool:
    """Whether a matrix belongs to the pooler: the only part of an encoder a head class may omit.

    Every encoder of transformers that has one calls it so.
    """
    return name.split(".")[0] == "pooler"


def _called(model: str | None) -> str:
    return "the model" if model is None else f"model {model!r}"


def _check_form(name: str, weight: Tensor, shape: tuple[int, ...], called: str, other: str) -> None:
    if weight.is_meta:
        raise TicketError(f"{name} of {called} is on the meta device; load its weights first")
    found, wanted = list(weight.shape), list(shape)
    if found != wanted:
        raise TicketError(f"{name} of {called} has the shape {found}, not {wanted}; {other}")
