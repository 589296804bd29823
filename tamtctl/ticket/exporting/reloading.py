"""Checking that a saved model, loaded again, has the same outputs as before."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from tamtctl.foundations.devices import Compute
from tamtctl.foundations.errors import ModelError
from tamtctl.models.encoder import base_encoder
from tamtctl.models.heads import HEADS, HeadedModel
from tamtctl.models.loading import load_tokenizer, load_with_task_head
from tamtctl.models.sentence_embeddings import SentencePipeline
from tamtctl.models.text_inputs import TextInputs

# Largest difference of outputs, by the order of additions, as a share of the largest output if
# that is above 1.
_TOLERANCE = 1e-5
_LONGEST_TEXT = 128  # tokens, if the model does not state its limit
_TEXTS = ["A list of names.", "the file", "", "Is this what a value of 12.5 is set to, or not?"]


@dataclass(frozen=True)
class Outputs:
    """The outputs of a model for a few inputs.

    Attributes:
        outputs: The outputs of its head.
        embeddings: Embeddings of sentences, shape (texts, D); None if the model makes none.
    """

    outputs: Tensor
    embeddings: Tensor | None

    @classmethod
    def of(
        cls,
        head: str,
        network: PreTrainedModel,
        tokenizer: PreTrainedTokenizerFast,
        pipeline: SentencePipeline | None,
    ) -> Outputs:
        """Run a model on a few tokens, and on a few sentences if it embeds them.

        Args:
            head: A name in `HEADS`.
            network: The model.
            tokenizer: Its tokenizer.
            pipeline: How it makes sentence embeddings; None if it makes none.
        """
        ids = torch.arange(8).view(2, 4) % network.config.vocab_size  # (2, 4)
        inputs = ids.unsqueeze(0) if head == "multiple-choice" else ids
        with torch.no_grad():
            outputs = network.eval()(input_ids=inputs)[0]
        return cls(outputs, None if pipeline is None else _embedded(pipeline, network, tokenizer))


def check_reloaded(
    base: HeadedModel,
    tokenizer: PreTrainedTokenizerFast,
    expected: Outputs,
    folder: Path,
) -> None:
    """Compare the outputs of the masked model with those of its folder, loaded again.

    Args:
        base: The model that was saved.
        tokenizer: Its tokenizer.
        expected: Its outputs before saving.
        folder: The folder that it was saved to.

    Raises:
        ModelError: The outputs differ.
    """
    network = base.network
    again, missing = load_with_task_head(HEADS[base.head], str(folder))
    its_tokenizer = load_tokenizer(str(folder))
    has_sentences = expected.embeddings is not None
    pipeline = SentencePipeline.of(str(folder)) if has_sentences else None
    found = Outputs.of(base.head, again, its_tokenizer, pipeline)
    if not are_close(expected.outputs, found.outputs):
        raise ModelError(
            f"transformers does not load {type(network).__name__} as it was saved "
            f"({len(missing)} parameters are lost); export it with another --head"
        )
    if tokenizer(_TEXTS)["input_ids"] != its_tokenizer(_TEXTS)["input_ids"]:
        raise ModelError(
            f"transformers does not load the {type(tokenizer).__name__} as it was saved; save the "
            "base model with its tokenizer.json"
        )
    if expected.embeddings is None or found.embeddings is None:
        return
    if not are_close(expected.embeddings, found.embeddings):
        raise ModelError(
            "the checkpoint does not give the sentence embeddings of the masked model, although "
            "its encoder is the same; save the base model anew with sentence-transformers"
        )


def are_close(expected: Tensor, found: Tensor) -> bool:
    """Return whether outputs differ by no more than rounding."""
    largest = max(1.0, float(expected.abs().max()))
    return torch.allclose(expected, found, rtol=0, atol=_TOLERANCE * largest)


def _embedded(
    pipeline: SentencePipeline, network: PreTrainedModel, tokenizer: PreTrainedTokenizerFast
) -> Tensor:
    inputs = TextInputs.of(network, tokenizer, usual=_LONGEST_TEXT)
    compute = Compute(torch.device("cpu"), "fp32")
    return pipeline.embed(inputs, base_encoder(network), list(_TEXTS), 2, compute)[0]
