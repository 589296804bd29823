"""Sentence embeddings as the makers of a model meant them: pooled, projected and normalised.

A model of `sentence-transformers` says in ``modules.json`` what follows the encoder: how its last
hidden states are pooled, dense layers, normalisation; and beside it, how a text is prepared. Any
other model gets the mean of its tokens. What cannot be honoured is refused by name.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import torch
from tokenizers.normalizers import Lowercase
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from tamtctl.foundations.devices import Compute
from tamtctl.foundations.errors import ModelError
from tamtctl.models.files import (
    ENCODER_KINDS,
    MAIN_CONFIG,
    MODULES,
    TRANSFORMER_CONFIGS,
    ModelFiles,
    module_kind,
)
from tamtctl.models.pooling import pool
from tamtctl.models.sentence_modules import Step, module_settings, module_step
from tamtctl.models.text_inputs import TextInputs

# The names of old and of new files → ours, in the order in which several are put together.
_FLAGS = {
    "pooling_mode_cls_token": "cls",
    "pooling_mode_max_tokens": "max",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_mean_sqrt_len_tokens": "mean_sqrt_len_tokens",
    "pooling_mode_weightedmean_tokens": "weightedmean",
    "pooling_mode_lasttoken": "lasttoken",
}
_MODES = frozenset(_FLAGS.values())
_TOKENS = "token_embeddings"
COSINE = "cosine"  # how embeddings are compared where a model says nothing


@dataclass(frozen=True)
class SentencePipeline:
    """What becomes of a text before and after the encoder.

    Attributes:
        modes: How the token states are pooled; several are put side by side.
        steps: What follows, in order.
        prompt: Stands before every text, unless it is a query or a passage.
        prompts: Name → prompt of all that the model has.
        similarity: How two embeddings are compared, as sentence-transformers calls it.
        pools_prompt: Whether the prompt's tokens are pooled, too.
        lower_case: Whether texts are put in lower case.
        truncated: How many numbers of an embedding are kept; None: all.
        max_length: Tokens of a text; None: as many as tokenizer and model take.
        is_own: Whether the model says all this, and is not just given the mean.
        summary: All of it but the prompt, in a few words.
        note: What a person should know of how it was found; empty if nothing.
    """

    modes: tuple[str, ...] = ("mean",)
    steps: tuple[Step, ...] = ()
    prompt: str = ""
    prompts: Mapping[str, str] = field(default_factory=dict)
    similarity: str = COSINE
    pools_prompt: bool = True
    lower_case: bool = False
    truncated: int | None = None
    max_length: int | None = None
    is_own: bool = False
    summary: str = "mean of the tokens"
    note: str = ""

    @classmethod
    def of(cls, name: str, revision: str | None = None) -> SentencePipeline:
        """Read the pipeline of a model; one that has none gets the mean of its tokens.

        Args:
            name: ``nano``, a folder or a Hub id.
            revision: Branch, tag or commit on the Hub.

        Raises:
            ModelError: Its files are damaged, or ask for what is not known here.
        """
        files = ModelFiles.of(name, revision)
        if files.are_unknown(MODULES):
            return cls(
                note=f"the Hub could not be asked whether {name} pools its sentence embeddings in "
                "a way of its own; the mean of the tokens is taken"
            )
        modules = files.modules()
        return cls() if modules is None else _pipeline(files, modules)

    @classmethod
    def known(cls, name: str, revision: str | None = None) -> SentencePipeline | None:
        """Return a model's own pipeline, None if it has none or one that is not known here."""
        try:
            found = cls.of(name, revision)
        except ModelError:
            return None
        return found if found.is_own else None

    def embed(
        self,
        inputs: TextInputs,
        model: PreTrainedModel,
        texts: list[str],
        batch_size: int,
        compute: Compute,
    ) -> tuple[Tensor, frozenset[int]]:
        """Return the embedding of each text, (n, H), and which texts were too long and are cut.

        Args:
            inputs: How the model takes texts; its length counts for models without a pipeline.
            model: The bare encoder, on its device.
            texts: To embed.
            batch_size: Texts at once.
            compute: Device and precision.
        """
        tokenizer = inputs.tokenizer
        lower = Lowercase().normalize_str if self.lower_case else str
        features = inputs.features(
            [[lower(self.prompt + text) for text in texts]],
            torch.zeros(len(texts)),
            max_length=self._length(inputs),
        )
        skipped = 0 if self.pools_prompt else self._prompt_tokens(tokenizer, lower)
        parts: list[tuple[Tensor, Tensor]] = []
        with torch.no_grad():
            for batch in features.evaluation_batches(batch_size):
                read = batch.to(compute.device).inputs
                with compute.autocast():
                    states = model(**read, return_dict=True).last_hidden_state  # (B, T, H)
                found = self.embeddings(states.float(), read["attention_mask"], skipped)
                parts.append((batch.rows, found.cpu()))
        rows, all_found = (torch.cat(column) for column in zip(*parts, strict=True))
        return all_found[rows.argsort()], features.cut_rows

    @property
    def words(self) -> str:
        """All of it in a few words."""
        return f"prompt {self.prompt!r}, {self.summary}" if self.prompt else self.summary

    def for_queries(self) -> SentencePipeline:
        """Return how queries are embedded: with the prompt that the model has for them."""
        return replace(self, prompt=self.prompts.get("query", ""))

    def for_passages(self) -> SentencePipeline:
        """Return how passages are embedded: with the prompt that the model has for documents.

        By its documentation sentence-transformers falls back on a prompt for passages; as of 6.2 it
        does not, for it gives every model an empty one for documents.
        """
        return replace(self, prompt=self.prompts.get("document", ""))

    def embeddings(self, states: Tensor, attended: Tensor, skipped: int = 0) -> Tensor:
        """Return the embedding of each text, (B, H'), differentiable by the states.

        Args:
            states: Last hidden states, shape (B, T, H), in float32 at least.
            attended: 1 for tokens and 0 for padding, shape (B, T).
            skipped: So many tokens at the start of each text are left out.
        """
        found = pool(states, attended, self.modes, skipped)
        for step in self.steps:
            found = step.apply(found)
        return found[:, : self.truncated]

    @property
    def digest(self) -> str:
        """What embeddings depend on besides the hidden states, in hex."""
        steps = [(step.words, step.digest) for step in self.steps]
        told = json.dumps([self.modes, steps, self.truncated])
        return hashlib.sha256(told.encode()).hexdigest()

    def _length(self, inputs: TextInputs) -> int:
        if not self.is_own:
            return inputs.max_length
        return min(self.max_length or inputs.tokenizer.model_max_length, inputs.longest)

    def _prompt_tokens(
        self, tokenizer: PreTrainedTokenizerFast, lower: Callable[[str], str]
    ) -> int:
        """Return how many tokens the prompt has, without the special one that ends a text."""
        if not self.prompt:
            return 0
        ids = tokenizer(lower(self.prompt))["input_ids"]
        return len(ids) - (bool(ids) and ids[-1] in tokenizer.all_special_ids)


def _pipeline(files: ModelFiles, modules: list[dict[str, Any]]) -> SentencePipeline:
    kinds = [_kind(files, module) for module in modules]
    if kinds[:1] != ["Transformer"] or kinds[1:2] != ["Pooling"] or "Transformer" in kinds[1:]:
        raise ModelError(
            f"model {files.name!r} makes its sentence embeddings of {', '.join(kinds) or 'nothing'}"
            "; only those of one Transformer and its Pooling are known here"
        )
    pooling_folder, *folders = [str(module["path"]) for module in modules[1:]]
    pooling = module_settings(files, f"{pooling_folder}/config.json")
    modes = _modes(files, pooling)
    prepared = _prepared(files, str(modules[0]["path"]))
    steps = tuple(map(partial(module_step, files), kinds[2:], folders))
    main = module_settings(files, MAIN_CONFIG, default={})
    prompts, truncated = _prompts(main), _truncated(files, main)
    words = [" and ".join(modes) + " of the tokens", *(step.words for step in steps)]
    if truncated:
        words.append(f"the first {truncated} numbers")
    return SentencePipeline(
        modes=modes,
        steps=steps,
        prompt=_prompt(files, main, prompts),
        prompts=prompts,
        similarity=str(main.get("similarity_fn_name") or COSINE),
        pools_prompt=bool(pooling.get("include_prompt", True)),
        lower_case=bool(prepared.get("do_lower_case")),
        truncated=truncated,
        max_length=prepared.get("max_seq_length"),
        is_own=True,
        summary=", ".join(words) + ", as the model says",
    )


def _kind(files: ModelFiles, module: Mapping[str, Any]) -> str:
    known = ("Transformer", "Pooling", "Dense", "Normalize")
    kind = module_kind(module)
    if kind in ENCODER_KINDS and kind != "MLMTransformer":
        return "Transformer"
    if kind is None or kind not in known:
        raise ModelError(
            f"model {files.name!r} makes its sentence embeddings with {module['type']}, which is "
            f"not known here; known are {', '.join(known)} of sentence_transformers"
        )
    return kind


def _modes(files: ModelFiles, pooling: Mapping[str, Any]) -> tuple[str, ...]:
    if "pooling_mode" in pooling:
        found = pooling["pooling_mode"]
        modes = (found,) if isinstance(found, str) else tuple(map(str, found))
    else:
        switched_on = {k for k, v in pooling.items() if k.startswith("pooling_mode_") and v}
        modes = tuple(m for flag, m in _FLAGS.items() if flag in switched_on)
        modes += tuple(sorted(switched_on - _FLAGS.keys()))
    if unknown := [mode for mode in modes if mode not in _MODES]:
        raise ModelError(
            f"model {files.name!r} pools its tokens by {unknown[0]!r}, which is not known here; "
            f"known are {', '.join(sorted(_MODES))}"
        )
    return modes or ("mean",)


def _prepared(files: ModelFiles, folder: str) -> dict[str, Any]:
    """Return how texts are prepared; what would change the token states is refused."""
    prefix = f"{folder}/" if folder else ""
    for name in TRANSFORMER_CONFIGS:
        if files.path(prefix + name):
            break
    else:
        return {}
    values = module_settings(files, prefix + name)
    modality = {"text": {"method": "forward", "method_output_name": "last_hidden_state"}}
    usual = {
        "transformer_task": "feature-extraction",
        "module_output_name": _TOKENS,
        "modality_config": modality,
    }
    for key, value in values.items():
        if key in usual and value not in (None, usual[key]):
            raise ModelError(
                f"model {files.name!r}: {key} of {name} is {value!r}, which is not known here; "
                f"known is {usual[key]!r}"
            )
    length = values.get("max_seq_length")
    if length is not None and (not isinstance(length, int) or length < 1):
        raise ModelError(f"model {files.name!r}: max_seq_length of {name} is {length!r}")
    return values


def _truncated(files: ModelFiles, values: Mapping[str, Any]) -> int | None:
    found = values.get("truncate_dim")
    if found is not None and (not isinstance(found, int) or found < 1):
        raise ModelError(f"model {files.name!r}: truncate_dim of {MAIN_CONFIG} is {found!r}")
    return found


def _prompts(values: Mapping[str, Any]) -> dict[str, str]:
    """Return name → prompt of those that are texts."""
    prompts = values.get("prompts")
    found = prompts if isinstance(prompts, dict) else {}
    return {name: prompt for name, prompt in found.items() if isinstance(prompt, str)}


def _prompt(files: ModelFiles, values: Mapping[str, Any], prompts: Mapping[str, str]) -> str:
    name = values.get("default_prompt_name")
    if name is None:
        return ""
    if name not in prompts:
        raise ModelError(
            f"model {files.name!r}: {MAIN_CONFIG} has no prompt {name!r}, its default one"
        )
    return prompts[name]
