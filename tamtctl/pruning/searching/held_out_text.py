"""A model and held-out text on which many masks are measured; losses are cached."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from typing import cast

import numpy as np
from torch import Tensor, nn

from tamtctl.data.corpus import Corpus, load_corpus
from tamtctl.data.noise import Noise
from tamtctl.data.padding import IdArray
from tamtctl.data.sequences import Chosen, Sequences
from tamtctl.foundations.devices import Compute
from tamtctl.foundations.errors import NoHeadError
from tamtctl.foundations.measured_text import MeasuredText
from tamtctl.models.content import content_digest
from tamtctl.models.encoder import Encoder, check_length
from tamtctl.models.loading import load_encoder
from tamtctl.models.sentence_embeddings import SentencePipeline
from tamtctl.pruning.objectives import TERMS
from tamtctl.pruning.objectives.held_out_loss import HeldOutLoss, check_targets
from tamtctl.pruning.objectives.objective import Objective
from tamtctl.pruning.searching.cached_losses import CachedLosses
from tamtctl.pruning.searching.mask_probe import MaskProbe, ProbeText
from tamtctl.pruning.statistics.calibration import uncalibrated
from tamtctl.pruning.trained.objective_steps import copies, copy_into
from tamtctl.ticket.texts import TextSource

_TO_CHOOSE_ON = 64  # sequences, enough to tell two allocations apart


@dataclass(frozen=True, kw_only=True)
class HeldOutText:
    """A model and held-out text on which masks are measured.

    Attributes:
        encoder: The model on its device; with its masked-LM head if the checkpoint has one.
        frozen: Name → pre-trained weight of every matrix that a hidden state depends on.
        corpus: The corpus that the held-out text is a part of.
        cut: The held-out text, cut into sequences.
        compute: Device and precision.
        objectives: Term → objective of this term alone, for every term that the model allows: some
            need a masked-LM head, others a pooling of sentences.
        cache: Losses of the model's masks that are known already.
        identity: Digests of ``model`` and ``text``, the ``sequence_length``, and a digest of the
            ``pooling`` if there is one. Equal text and length give equal measurements of a model.
        scored: A description of the text for people.
        digests: Digests of the corpus, as in tickets.
        notes: Lines about the text that a person should read.
    """

    encoder: Encoder
    frozen: dict[str, Tensor]
    corpus: Corpus
    cut: ProbeText
    compute: Compute
    objectives: dict[str, Objective]
    cache: CachedLosses
    identity: dict[str, object]
    scored: MeasuredText
    digests: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    @classmethod
    def open(
        cls,
        model: str,
        source: TextSource,
        *,
        revision: str | None = None,
        limit: int,
        compute: Compute,
    ) -> HeldOutText:
        """Load a model and a held-out text.

        Args:
            model: The model.
            source: The text; it states its sequence length.
            revision: Branch, tag or commit of the model on the Hub.
            limit: Most sequences that are measured.
            compute: Device and precision.

        Raises:
            ModelError: The model cannot be loaded.
            CorpusError: The text cannot be read.
            UsageError: The sequences are longer than the model can take.
        """
        encoder, has_head = _load(model, revision)
        noise = Noise.of(encoder.tokenizer) if has_head else None
        text, cut = _read_text(source, encoder, noise, limit)
        identity: dict[str, object] = {
            "model": content_digest(encoder),
            "text": text.fingerprint,
            "sequence_length": source.sequence_length,
        }
        pooling = SentencePipeline.known(model, revision)
        if pooling is not None:
            identity["pooling"] = pooling.digest
        measured = [
            name
            for name, term in TERMS.items()
            if (has_head or not term.needs_head) and (pooling or not term.needs_embeddings)
        ]
        cache = CachedLosses.of(encoder, measured, compute)
        compute.place(encoder.model)
        frozen = {name: p.detach().clone() for name, p in encoder.matrices.items()}
        return cls(
            encoder=encoder,
            frozen=frozen,
            corpus=text,
            cut=cut,
            compute=compute,
            objectives={
                name: Objective(encoder, name, frozen, pooling=pooling) for name in measured
            },
            cache=cache,
            identity=identity,
            scored=cut.scored(text.held_out_name),
            digests=text.digests,
            notes=tuple(map(source.published, text.notes)),
        )

    def on(self, source: TextSource) -> HeldOutText:
        """Return the same model with other text.

        Raises:
            CorpusError: The text cannot be read.
            UsageError: The sequences are longer than the model can take.
        """
        text, cut = _read_text(source, self.encoder, self.cut.noise, self.cut.limit)
        here = {"text": text.fingerprint, "sequence_length": source.sequence_length}
        return replace(
            self,
            corpus=text,
            cut=cut,
            identity=self.identity | here,
            scored=cut.scored(text.held_out_name),
            digests=text.digests,
            notes=tuple(map(source.published, text.notes)),
        )

    @property
    def weights(self) -> dict[str, Tensor]:
        """Name → pre-trained weight of every maskable matrix of the checkpoint, on the CPU."""
        return {name: w.cpu() for name, w in (self.frozen | self.encoder.pooler).items()}

    @property
    def terms(self) -> tuple[str, ...]:
        """The terms that are measured."""
        return tuple(self.objectives)

    @property
    def head(self) -> Mapping[str, nn.Parameter]:
        """The parameters of the model's masked-LM head; empty if it has none."""
        return next((one.head for one in self.objectives.values() if one.head), {})

    @property
    def has_pooling(self) -> bool:
        """Whether the model says how it makes sentence embeddings."""
        return "pooling" in self.identity

    def training_text(self) -> Sequences:
        """Return the training text, as a search for this model cuts it.

        Raises:
            CorpusError: There is no training text.
        """
        length = cast(int, self.identity["sequence_length"])
        name = f"the training text of {self.corpus.name}"
        return self.corpus.training_text(length, self.encoder.tokenizer, name=name)

    def of_training(self) -> HeldOutText:
        """Return the same model with a part of the training text: choices are made on it.

        Criteria are not calibrated on that part, unless the text is too short to leave it out.

        Raises:
            CorpusError: There is no training text, or nothing in it can be measured.
        """
        name = f"the training text of {self.corpus.name}"
        chosen = Chosen(self.training_text(), self._to_choose_on())
        check_targets(chosen, noise=self.cut.noise, limit=None, text=name)
        facts = chosen.facts(self.corpus.rows, self.corpus.train_unknown)
        cut = ProbeText(chosen, facts, self.cut.noise, len(chosen))
        return replace(self, cut=cut, scored=cut.scored(name))

    def training_text_apart(self) -> Sequences:
        """Return the training text without the part of `of_training`, if that leaves any.

        Raises:
            CorpusError: There is no training text.
        """
        whole = self.training_text()
        rest = np.setdiff1d(np.arange(len(whole)), self._to_choose_on())
        return Chosen(whole, rest) if len(rest) else whole

    def _to_choose_on(self) -> IdArray:
        length = cast(int, self.identity["sequence_length"])
        return uncalibrated(self.training_text(), length, _TO_CHOOSE_ON)

    def losses(
        self, masks: Mapping[str, Tensor] | None, terms: Collection[str] | None = None
    ) -> dict[str, HeldOutLoss]:
        """Return term → loss of the pre-trained model under masks, with its pre-trained head.

        Args:
            masks: Name → boolean mask, for at least every matrix in `frozen`; None: the dense
                model.
            terms: Which terms; None: all.
        """
        objectives = tuple(
            one for name, one in self.objectives.items() if terms is None or name in terms
        )
        probe = MaskProbe(self.encoder, self.frozen, objectives, self.compute, cache=self.cache)
        return probe.losses(self.cut, masks)

    def losses_of_weights(self, weights: Mapping[str, Tensor]) -> dict[str, HeldOutLoss]:
        """Return term → loss of the encoder with other weights, with the pre-trained head.

        The teacher is the whole dense model. Afterwards the encoder has its own weights again.

        Args:
            weights: Name in the base encoder → weight of the same shape.
        """
        own = dict(self.encoder.base.named_parameters())
        dense = copies(own) | self.frozen  # the encoder's own matrices may be masked now
        objectives = tuple(
            Objective(self.encoder, name, self.frozen, dense) for name in self.objectives
        )
        probe = MaskProbe(self.encoder, self.frozen, objectives, self.compute)
        try:
            copy_into(own, weights)
            return probe.losses_as_folded(self.cut)
        finally:
            copy_into(own, dense)


def _read_text(
    source: TextSource, encoder: Encoder, noise: Noise | None, limit: int
) -> tuple[Corpus, ProbeText]:
    """Read a corpus and cut its held-out part, which is checked to have targets for a loss."""
    length = source.sequence_length
    assert length is not None
    check_length(
        length,
        encoder.model,
        what="the sequence length",
        remedy="give a recipe, or a --sequence-length, with",
    )
    is_all = source.held_out == source.corpus  # the training part is not used
    text = load_corpus(
        source.corpus,
        encoder.tokenizer,
        held_out=None if is_all else source.held_out or None,
        whole=(lambda sources: [True] * len(sources)) if is_all else None,
        text_column=source.text_column,
        rows=source.rows,
    )
    cut = ProbeText.cut(text, encoder, sequence_length=length, noise=noise, limit=limit)
    return text, cut


def _load(model: str, revision: str | None) -> tuple[Encoder, bool]:
    try:
        return load_encoder(model, with_head=True, revision=revision), True
    except NoHeadError:
        return load_encoder(model, with_head=False, revision=revision), False
