"""Sentence embeddings as a model's files describe them: pooled, projected and normalised.

A model of `sentence-transformers` lists in ``modules.json`` what follows the encoder: pooling of
its last hidden states, dense layers, normalisation. Other files say how a text is prepared. For any
other model, the mean of the tokens is taken. Modules and settings that are not supported are
refused by name.
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

# Flag in older files → mode, in the order in which several modes are concatenated.
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
COSINE = "cosine"  # the default similarity


@dataclass(frozen=True)
class SentencePipeline:
    """The processing of a text before and after the encoder.

    Attributes:
        modes: How hidden states are pooled, see `tamtctl.models.pooling.pool`; several are
            concatenated.
        steps: The modules after the pooling, in order.
        prompt: Text that is put before every text; `for_queries` and `for_passages` change it.
        prompts: Name → prompt, of all prompts that the model has.
        similarity: How two embeddings are compared, in sentence-transformers' names.
        pools_prompt: Whether the prompt's tokens are pooled, too.
        lower_case: Whether texts are converted to lower case.
        truncated: Number of leading dimensions of an embedding that are kept; None: all.
        max_length: Most tokens of a text; None: as many as tokenizer and model take.
        is_own: Whether the model's files say all this; else it is the default, the mean.
        summary: The pipeline in a few words, without the prompt.
        note: A line that a person should read about how it was found; else empty.
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
        """Read the pipeline of a model; without one, it is the mean of the tokens.

        Args:
            name: ``nano``, a folder or a Hub id.
            revision: Branch, tag or commit on the Hub.

        Raises:
            ModelError: The files are damaged, or have a module or setting that is not known here.
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
        """Return a model's own pipeline; None if it has none, or one that is not known here."""
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
        """Return the embedding of each text, (n, H'), and the indices of texts that were cut.

        Args:
            inputs: How the model takes texts; its length holds for models without a pipeline.
            model: The bare encoder, on its device.
            texts: The texts to embed.
            batch_size: Texts in a batch.
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
        """The pipeline in a few words, with its prompt."""
        return f"prompt {self.prompt!r}, {self.summary}" if self.prompt else self.summary

    def for_queries(self) -> SentencePipeline:
        """Return the pipeline for queries, with the model's prompt for them if it has one."""
        return replace(self, prompt=self.prompts.get("query", ""))

    def for_passages(self) -> SentencePipeline:
        """Return the pipeline for passages, with the model's prompt for documents if it has one.

        The documentation of sentence-transformers says that it falls back on a prompt for passages.
        Up to version 6.2 it does not, since every model gets an empty prompt for documents.
        """
        return replace(self, prompt=self.prompts.get("document", ""))

    def embeddings(self, states: Tensor, attended: Tensor, skipped: int = 0) -> Tensor:
        """Return the embedding of each text, (B, H'), differentiable with respect to the states.

        Args:
            states: Last hidden states, shape (B, T, H), in float32 at least.
            attended: 1 for tokens and 0 for padding, shape (B, T).
            skipped: So many tokens at the start of each text are left out.
        """
        found = pool(states, attended, self.modes, skipped)
        with torch.autocast(states.device.type, enabled=False):  # dense layers would round to bf16
            for step in self.steps:
                found = step.apply(found)
        return found[:, : self.truncated]

    @property
    def digest(self) -> str:
        """Hex digest of everything that embeddings depend on, besides the hidden states."""
        steps = [(step.words, step.digest) for step in self.steps]
        told = json.dumps([self.modes, steps, self.truncated])
        return hashlib.sha256(told.encode()).hexdigest()

    @property
    def identity(self) -> list[Any]:
        """What the embedding of a text depends on, besides the encoder; plain JSON values."""
        return [
            self.digest,
            self.prompt,
            dict(self.prompts),
            self.similarity,
            self.pools_prompt,
            self.lower_case,
            self.max_length,
            self.is_own,
        ]

    def _length(self, inputs: TextInputs) -> int:
        if not self.is_own:
            return inputs.max_length
        return min(self.max_length or inputs.tokenizer.model_max_length, inputs.longest)

    def _prompt_tokens(
        self, tokenizer: PreTrainedTokenizerFast, lower: Callable[[str], str]
    ) -> int:
        """Return the number of the prompt's tokens, without a special token at its end."""
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
        modes = tuple(map(str, found)) if isinstance(found, list) else (str(found),)
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
    """Return the settings for preparing texts; refuse those that would change the hidden states."""
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
    """Return name → prompt, of all prompts that are strings."""
    prompts = values.get("prompts")
    found = prompts if isinstance(prompts, dict) else {}
    return {name: prompt for name, prompt in found.items() if isinstance(prompt, str)}


def _prompt(files: ModelFiles, values: Mapping[str, Any], prompts: Mapping[str, str]) -> str:
    name = values.get("default_prompt_name")
    if name is None:
        return ""
    if not isinstance(name, str) or name not in prompts:
        raise ModelError(
            f"model {files.name!r}: {MAIN_CONFIG} has no prompt {name!r}, its default one"
        )
    return prompts[name]
