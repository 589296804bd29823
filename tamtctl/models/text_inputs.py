"""How a model takes texts: its length limit, and whether it takes token types."""

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
        tokenizer: The model's tokenizer.
        max_length: Most tokens per example or window that are read.
        takes_types: Whether the model takes ``token_type_ids``, which distinguish two texts.
        longest: Most tokens that the model can take.
        vocabulary: Number of tokens that the model knows.
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
            model: The model, with any head.
            tokenizer: The model's tokenizer.
            usual: Default tokens per example; fewer if the model or its tokenizer is limited to
                fewer.
            max_length: Tokens per example that the user asks for; None: the default.

        Raises:
            UsageError: The model cannot take ``max_length`` tokens.
            ModelError: The tokenizer has added tokens that the model does not know.
        """
        longest = max_sequence_length(model)
        if max_length is not None:
            check_length(max_length, model, what="--max-length")
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
        """Most tokens of an example that are read, and most that the model can take."""
        return self.max_length, self.longest

    def features(
        self,
        texts: Sequence[Sequence[str]],
        labels: Tensor,
        *,
        max_length: int | None = None,
    ) -> Features:
        """Return the model's inputs for texts, with their labels.

        Args:
            texts: One or two columns of n texts.
            labels: One label for each example, shape (n,) or (n, …).
            max_length: Most tokens per example; None: ``max_length`` of the instance.

        Raises:
            ModelError: The model does not know a token.
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
