"""How a model takes texts: so many tokens at most, with or without a type for each."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from tamtctl.data.padded_batches import Features, text_features
from tamtctl.foundations.errors import ModelError
from tamtctl.models.encoder import check_length, max_sequence_length


@dataclass(frozen=True)
class TextInputs:
    """How a model takes texts.

    Attributes:
        tokenizer: The model's.
        max_length: Tokens per example or window.
        takes_types: Whether the model takes ``token_type_ids``, which tell two texts apart.
        longest: Tokens that the model can take at most.
        vocabulary: How many tokens the model knows.
    """

    tokenizer: PreTrainedTokenizerFast
    max_length: int
    takes_types: bool
    longest: int
    vocabulary: int

    @classmethod
    def of(
        cls,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerFast,
        usual: int,
        max_length: int | None = None,
    ) -> TextInputs:
        """Return how a model takes texts.

        Args:
            model: Loaded with any head.
            tokenizer: The model's.
            usual: Tokens per example unless the model can take fewer, or the tokenizer is meant
                for fewer.
            max_length: Tokens per example that are asked for; None: the usual.

        Raises:
            UsageError: The model cannot take ``max_length`` tokens.
            ModelError: Tokens that were added to the tokenizer are none of the model's.
        """
        longest = max_sequence_length(model)
        if max_length is not None:
            check_length(max_length, model, told="--max-length")
        takes_types = (
            "token_type_ids" in tokenizer.model_input_names
            and "token_type_ids" in inspect.signature(model.forward).parameters
            and getattr(model.config, "type_vocab_size", 0) > 1
        )
        length = max_length or min(usual, longest, tokenizer.model_max_length)
        vocabulary = int(cast(Any, model.get_input_embeddings()).weight.shape[0])
        found = cls(tokenizer, length, takes_types, longest, vocabulary)
        found.check_vocabulary(max(tokenizer.get_added_vocab().values(), default=0))
        return found

    def check_vocabulary(self, largest: int) -> None:
        """Raise ModelError if the model does not know a token of this id."""
        if largest >= self.vocabulary:
            token = self.tokenizer.convert_ids_to_tokens(largest)
            raise ModelError(
                f"the tokenizer has the token {token!r} with id {largest}, but the model knows "
                f"{self.vocabulary} tokens; save the tokenizer that belongs to it, or resize its "
                "embeddings"
            )

    @property
    def limits(self) -> tuple[int, int]:
        """Tokens of an example that are read, and those that the model can take."""
        return self.max_length, self.longest

    def features(
        self,
        texts: Sequence[Sequence[str]],
        labels: Tensor,
        *,
        max_length: int | None = None,
    ) -> Features:
        """Return what the model reads of texts.

        Args:
            texts: One or two columns of n texts.
            labels: One for each, (n,) or (n, …).
            max_length: Tokens per text, if other than usual.

        Raises:
            ModelError: A token is none of the model's.
        """
        found = text_features(
            texts,
            labels,
            self.tokenizer,
            max_length=max_length or self.max_length,
            takes_types=self.takes_types,
        )
        self.check_vocabulary(found.largest_id)
        return found
