"""Loading a checkpoint with its own head, found from its files, or with another one."""

from __future__ import annotations

from dataclasses import dataclass

from transformers import (
    AutoModel,
    AutoModelForMaskedLM,
    AutoModelForMultipleChoice,
    AutoModelForQuestionAnswering,
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
    PreTrainedConfig,
    PreTrainedModel,
)

from tamtctl.foundations.errors import ModelError
from tamtctl.models.loading import (
    computes_with_embeddings,
    load_config,
    load_with_head,
    refuse_lost,
)
from tamtctl.models.pipeline_files import PipelineFiles

MASKED_LM, NONE = "masked-lm", "none"
HEADS = {
    MASKED_LM: AutoModelForMaskedLM,
    NONE: AutoModel,
    "sequence-classification": AutoModelForSequenceClassification,
    "token-classification": AutoModelForTokenClassification,
    "question-answering": AutoModelForQuestionAnswering,
    "multiple-choice": AutoModelForMultipleChoice,
}
# Ending of the class that a configuration names → head of a task.
_ENDINGS = {
    "ForSequenceClassification": "sequence-classification",
    "ForTokenClassification": "token-classification",
    "ForQuestionAnswering": "question-answering",
    "ForMultipleChoice": "multiple-choice",
}
_SHOWN_LABELS = 6


@dataclass(frozen=True)
class HeadedModel:
    """A model with a head.

    Attributes:
        head: One of `HEADS`.
        why: Why this head was chosen, in a few words.
        network: The model, in float32.
        missing: Names of its parameters that the checkpoint lacks, and that are random.
        unused: Names of the checkpoint's tensors that the model does not use.
    """

    head: str
    why: str
    network: PreTrainedModel
    missing: frozenset[str]
    unused: frozenset[str]

    @classmethod
    def with_head(cls, head: str, why: str, name: str, revision: str | None = None) -> HeadedModel:
        """Load a model with a head, which may be new unless it is the masked-LM head.

        Raises:
            ModelError: The model cannot be loaded, or lacks weights of the encoder or of the
                masked-LM head.
        """
        network, missing, unused = load_with_head(HEADS[head], name, revision=revision)
        if head == NONE:
            refuse_lost(name, (n for n in missing if "pooler." not in n))
        if head == MASKED_LM and missing:
            raise ModelError(
                f"model {name!r} has no masked-LM head (it lacks {min(missing)}); export it with "
                "the head that it has, by leaving --head out"
            )
        return cls(head, why, network, frozenset(missing), frozenset(unused))

    @classmethod
    def for_graph(cls, name: str) -> HeadedModel:
        """Load a model with the head whose outputs its graph must have.

        That of a sentence encoder has hidden states, from which sentence-transformers makes
        embeddings, also if the checkpoint has a head.

        Raises:
            ModelError: The model cannot be loaded, or lacks weights of the encoder.
        """
        pipeline = PipelineFiles.of(name)
        if pipeline.loader and pipeline.head is None:
            return cls.with_head(NONE, "as its modules read hidden states", name)
        return cls.as_it_is(name)

    @classmethod
    def as_it_is(cls, name: str, revision: str | None = None) -> HeadedModel:
        """Load a model with the head whose weights its checkpoint has, else as the bare encoder.

        Raises:
            ModelError: The model cannot be loaded, or lacks weights of the encoder.
        """
        config = load_config(name, revision)
        named, own = _named(config), head_of_task(config)
        if own:
            network, missing, unused = load_with_head(HEADS[own], name, revision=revision)
            if not missing:
                why = f"the model's own, trained{_labels(own, network.config)}"
                return cls(own, why, network, frozenset(), frozenset(unused))
        network, missing, unused = load_with_head(AutoModelForMaskedLM, name, revision=revision)
        is_tied = computes_with_embeddings(network)
        if not missing and not is_tied:
            return cls(MASKED_LM, "the model has one", network, frozenset(), frozenset(unused))
        why = "the model has none"
        if not missing:
            why = f"that of {named} computes with the word embeddings themselves"
        elif own or named.endswith("ForMaskedLM"):
            why = f"config.json names {named}, but that head's weights are not all there"
        elif "For" in named:
            why = f"that of {named} is not known here"
        return cls.with_head(NONE, why, name, revision)


def head_of_task(config: PreTrainedConfig) -> str | None:
    """Return the head of a task that a configuration names; None if it names another, or none."""
    return next((head for end, head in _ENDINGS.items() if _named(config).endswith(end)), None)


def _named(config: PreTrainedConfig) -> str:
    return str((config.architectures or [""])[0])


def _labels(head: str, config: PreTrainedConfig) -> str:
    if not head.endswith("-classification"):
        return ""
    labels = list((config.id2label or {}).values())
    if len(labels) < 2:
        return " for a number" if labels else ""
    shown = ", ".join(map(str, labels[:_SHOWN_LABELS]))
    return f" for {shown}{', …' if len(labels) > _SHOWN_LABELS else ''}"
