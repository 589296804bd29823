"""The pre-training losses of masks of one model, all on the same held-out text and noise.

What was measured once is kept: the losses follow from the masks, the weights and the text.
"""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast

import numpy as np
import torch
from torch import Tensor, nn

from tamtctl.data.batches import Blocks, Noise, evaluation_batches
from tamtctl.data.corpus import Corpus, load_corpus
from tamtctl.foundations.cache import cache_dir
from tamtctl.foundations.devices import Compute
from tamtctl.foundations.errors import NoHeadError, UsageError
from tamtctl.foundations.loss_units import ScoredText
from tamtctl.foundations.masks import pack
from tamtctl.models.encoder import Encoder, max_sequence_length
from tamtctl.models.loading import NO_PART_OF_A_MODEL, load_encoder
from tamtctl.pruning.objectives import TERMS
from tamtctl.pruning.objectives.held_out_loss import HeldOutLoss, check_targets, held_out_losses
from tamtctl.pruning.objectives.objective import Objective
from tamtctl.pruning.trained.folded_weights import fold
from tamtctl.training.run_folder import write_json

_VERSION = 2  # raise it whenever the same masks would give other losses
_BATCH = 16


@dataclass(frozen=True, kw_only=True)
class HeldOutText:
    """A model and held-out text to try masks on.

    Attributes:
        encoder: On its device; with its masked-LM head if the checkpoint has one.
        frozen: Name → pre-trained weight of every matrix that a hidden state depends on.
        blocks: The text.
        limit: So many blocks at most, spread over it.
        compute: Where and in which precision.
        objectives: Every term of an objective, each by itself; without a masked-LM head, those that
            need none.
        noise: Masked tokens for the terms that need them; others are measured on clean text, as
            they are trained.
        identity: What the losses depend on besides the masks.
        scored: What a person is told of the text.
        digests: Digests of the corpus that it is a part of, as tickets have them.
        notes: Lines that a person should know of it.
    """

    encoder: Encoder
    frozen: dict[str, Tensor]
    blocks: Blocks
    limit: int
    compute: Compute
    objectives: dict[str, Objective]
    noise: Noise | None
    identity: dict[str, object]
    scored: ScoredText
    digests: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    @classmethod
    def open(
        cls,
        model: str,
        corpus: tuple[str, ...],
        *,
        revision: str | None = None,
        held_out: tuple[str, ...] = (),
        text_column: str | None = None,
        sequence_length: int,
        limit: int,
        compute: Compute,
    ) -> HeldOutText:
        """Load a model and the held-out part of a corpus.

        Raises:
            ModelError: The model cannot be loaded.
            CorpusError: The text cannot be read.
            UsageError: The sequences are longer than the model can take.
        """
        encoder, has_head = _load(model, revision)
        _check_length(sequence_length, encoder)
        noise = Noise.of(encoder.tokenizer) if has_head else None
        text, blocks = _read_text(
            corpus, encoder, noise, held_out=held_out, text_column=text_column,
            sequence_length=sequence_length, limit=limit,
        )  # fmt: skip
        identity = {
            "version": _VERSION,
            "model": _digest(encoder),
            "text": text.fingerprint,
            "sequence_length": sequence_length,
            "limit": limit,
            "device": compute.device.type,
            "precision": compute.precision,
        }
        cast(nn.Module, encoder.model).to(compute.device)
        frozen = {name: p.detach().clone() for name, p in encoder.matrices.items()}
        measured = [n for n, term in TERMS.items() if has_head or not term.needs_head]
        return cls(
            encoder=encoder,
            frozen=frozen,
            blocks=blocks,
            limit=limit,
            compute=compute,
            objectives={name: Objective(encoder, name, frozen) for name in measured},
            noise=noise,
            identity=identity,
            scored=_scored(text, blocks, limit, sequence_length),
            digests=text.digests,
            notes=text.notes,
        )

    def on(
        self,
        corpus: tuple[str, ...],
        *,
        held_out: tuple[str, ...],
        text_column: str | None,
        sequence_length: int,
    ) -> HeldOutText:
        """Return the same model with other text.

        Raises:
            CorpusError: The text cannot be read.
            UsageError: The sequences are longer than the model can take.
        """
        _check_length(sequence_length, self.encoder)
        text, blocks = _read_text(
            corpus, self.encoder, self.noise, held_out=held_out,
            text_column=text_column, sequence_length=sequence_length, limit=self.limit,
        )  # fmt: skip
        return replace(
            self,
            blocks=blocks,
            identity=self.identity | {"text": text.fingerprint, "sequence_length": sequence_length},
            scored=_scored(text, blocks, self.limit, sequence_length),
            digests=text.digests,
            notes=text.notes,
        )

    @property
    def weights(self) -> dict[str, Tensor]:
        """Every maskable matrix of the checkpoint as it was pre-trained, on the CPU."""
        return {name: w.cpu() for name, w in (self.frozen | self.encoder.pooler).items()}

    @property
    def terms(self) -> tuple[str, ...]:
        """What is measured."""
        return tuple(self.objectives)

    @property
    def head(self) -> Mapping[str, nn.Parameter]:
        """The parameters of the model's masked-LM head; empty if it has none."""
        return next((one.head for one in self.objectives.values() if one.head), {})

    def losses(self, masks: Mapping[str, Tensor] | None) -> dict[str, HeldOutLoss]:
        """Return each term's loss of the pre-trained model under masks, with its own head.

        Args:
            masks: Name → boolean mask of every matrix in `frozen`, at least; None: dense.
        """
        if masks is None:
            masks = {n: torch.ones_like(w, dtype=torch.bool) for n, w in self.frozen.items()}
        chosen = {name: masks[name] for name in self.frozen}
        file = self._file(chosen)
        if (found := _read(file, self.terms)) is not None:
            return found
        on_device = {name: mask.to(self.compute.device) for name, mask in chosen.items()}
        fold(self.encoder.matrices, self.frozen, on_device)
        found = {}
        for term, objective in self.objectives.items():
            batches = evaluation_batches(
                self.blocks,
                _BATCH,
                noise=self.noise if TERMS[term].needs_noise else None,
                limit=self.limit,
            )
            compute = self.compute
            found |= held_out_losses(objective, batches, compute.autocast, compute.device)
        if all(bool(mask.all()) for mask in chosen.values()):
            found |= {n: loss.of_nothing() for n, loss in found.items() if TERMS[n].is_distance}
        file.parent.mkdir(parents=True, exist_ok=True)
        write_json(
            file,
            {
                term: {
                    "sums": loss.sums.tolist(),
                    "counts": loss.counts.tolist(),
                    "version": TERMS[term].version,
                }
                for term, loss in found.items()
            },
        )
        return found

    def _file(self, masks: Mapping[str, Tensor]) -> Path:
        """Return where the losses of these masks are kept."""
        digest = hashlib.sha256(json.dumps(self.identity, sort_keys=True).encode())
        for name, mask in masks.items():
            digest.update(name.encode())
            digest.update(pack(mask.numpy(force=True)).tobytes())
        return cache_dir() / "losses" / f"{digest.hexdigest()}.json"


def _read_text(
    corpus: tuple[str, ...],
    encoder: Encoder,
    noise: Noise | None,
    *,
    held_out: tuple[str, ...],
    text_column: str | None,
    sequence_length: int,
    limit: int,
) -> tuple[Corpus, Blocks]:
    """Read a corpus and cut its held-out part; there is something to take a loss of."""
    is_all = held_out == corpus  # whose rest does not matter
    text = load_corpus(
        corpus,
        encoder.tokenizer,
        held_out=None if is_all else held_out or None,
        whole=(lambda sources: [True] * len(sources)) if is_all else None,
        text_column=text_column,
    )
    blocks = Blocks.of(
        text.held_out,
        sequence_length,
        encoder.tokenizer,
        name=f"the held-out text of {text.name}",
    )
    check_targets(blocks, noise=noise, limit=limit, text=text.name)
    return text, blocks


def _scored(text: Corpus, blocks: Blocks, limit: int, sequence_length: int) -> ScoredText:
    return ScoredText(text.held_out_name, min(limit, len(blocks)), len(blocks), sequence_length)


def _check_length(sequence_length: int, encoder: Encoder) -> None:
    if sequence_length > (longest := max_sequence_length(encoder.model)):
        raise UsageError(
            f"the sequence length {sequence_length} is more than model {encoder.id!r} can take; "
            f"give a recipe, or a --sequence-length, with at most {longest}"
        )


def _load(model: str, revision: str | None) -> tuple[Encoder, bool]:
    try:
        return load_encoder(model, with_head=True, revision=revision), True
    except NoHeadError:
        return load_encoder(model, with_head=False, revision=revision), False


def _digest(encoder: Encoder) -> str:
    """Return the SHA-256 of all that the losses depend on in a model and its tokenizer."""
    configuration = encoder.model.config.to_diff_dict()
    told = {key: v for key, v in configuration.items() if key not in NO_PART_OF_A_MODEL}
    tokenizer = (encoder.tokenizer.backend_tokenizer.to_str(), encoder.tokenizer.all_special_ids)
    digest = hashlib.sha256(json.dumps([told, tokenizer], sort_keys=True, default=str).encode())
    tensors = itertools.chain(encoder.model.named_parameters(), encoder.model.named_buffers())
    for name, tensor in tensors:
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().numpy().tobytes())
    return digest.hexdigest()


def _read(file: Path, terms: tuple[str, ...]) -> dict[str, HeldOutLoss] | None:
    try:
        values = json.loads(file.read_text(encoding="utf-8"))
        if any(values[term].get("version", 1) != TERMS[term].version for term in terms):
            return None
        return {  # in this order, which the file does not keep
            term: HeldOutLoss(
                np.array(values[term]["sums"], np.float64),
                np.array(values[term]["counts"], np.int64),
            )
            for term in terms
        }
    except (OSError, ValueError, KeyError, TypeError, RecursionError, AttributeError):
        return None
