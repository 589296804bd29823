"""Sentence embeddings as the makers of a model meant them: pooled, projected and normalised.

A model of `sentence-transformers` says in ``modules.json`` what follows the encoder: how its last
hidden states are pooled, dense layers, normalisation; and beside it, how a text is prepared. Any
other model gets the mean of its tokens. What cannot be honoured is refused by name.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, cast

import torch
import torch.nn.functional as F  # noqa: N812, the field's own name for it
from safetensors import SafetensorError
from safetensors.torch import load_file
from tokenizers.normalizers import Lowercase
from torch import Tensor, nn
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
from tamtctl.models.text_inputs import TextInputs

Step = Callable[[Tensor], Tensor]  # from embeddings of shape (n, H) to such of shape (n, H')

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
_ACTIVATIONS = {
    kind.__name__: kind
    for kind in (nn.Identity, nn.Tanh, nn.ReLU, nn.GELU, nn.Sigmoid, nn.SiLU, nn.ELU, nn.Mish)
}
_EMBEDDING, _TOKENS = "sentence_embedding", "token_embeddings"


@dataclass(frozen=True)
class SentencePipeline:
    """What becomes of a text before and after the encoder.

    Attributes:
        modes: How the token states are pooled; several are put side by side.
        steps: What follows, in order.
        prompt: Stands before every text.
        pools_prompt: Whether the prompt's tokens are pooled, too.
        lower_case: Whether texts are put in lower case.
        truncated: How many numbers of an embedding are kept; None: all.
        max_length: Tokens of a text; None: as many as tokenizer and model take.
        is_own: Whether the model says all this, and is not just given the mean.
        summary: All of it in a few words.
        note: What a person should know of how it was found; empty if nothing.
    """

    modes: tuple[str, ...] = ("mean",)
    steps: tuple[Step, ...] = ()
    prompt: str = ""
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
                pooled = pool(states.float(), read["attention_mask"], self.modes, skipped).cpu()
                for step in self.steps:
                    pooled = step(pooled)
                pooled = pooled[:, : self.truncated]
                parts.append((batch.rows, pooled))
        rows, found = (torch.cat(column) for column in zip(*parts, strict=True))
        return found[rows.argsort()], features.cut_rows

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


def pool(states: Tensor, attended: Tensor, modes: tuple[str, ...], skipped: int = 0) -> Tensor:
    """Return the pooled states of each text, those of several modes side by side.

    Args:
        states: Hidden states, shape (B, T, H); padding is on the right.
        attended: 1 for tokens and 0 for padding, shape (B, T).
        modes: ``cls``, ``mean`` and so on.
        skipped: So many tokens at the start of each text are left out.
    """
    own = attended.clone()
    own[:, :skipped] = 0
    weights = own.unsqueeze(2).to(states.dtype)  # (B, T, 1)
    places = torch.arange(1, states.shape[1] + 1, device=states.device)  # (T,)
    texts = torch.arange(len(states), device=states.device)

    def mean(by: Tensor, power: float = 1.0) -> Tensor:
        return (states * by).sum(1) / by.sum(1).clamp(min=1e-9) ** power

    functions: dict[str, Callable[[], Tensor]] = {
        "cls": lambda: states[texts, own.argmax(1)],
        "max": lambda: states.masked_fill(weights == 0, -torch.inf).amax(1),
        "mean": lambda: mean(weights),
        "mean_sqrt_len_tokens": lambda: mean(weights, 0.5),
        "weightedmean": lambda: mean(weights * places[:, None]),
        "lasttoken": lambda: states[texts, (own * places).argmax(1)],
    }
    return torch.cat([functions[mode]() for mode in modes], 1)


def _pipeline(files: ModelFiles, modules: list[dict[str, Any]]) -> SentencePipeline:
    kinds = [_kind(files, module) for module in modules]
    if kinds[:1] != ["Transformer"] or kinds[1:2] != ["Pooling"] or "Transformer" in kinds[1:]:
        raise ModelError(
            f"model {files.name!r} makes its sentence embeddings of {', '.join(kinds) or 'nothing'}"
            "; only those of one Transformer and its Pooling are known here"
        )
    pooling_folder, *folders = [str(module["path"]) for module in modules[1:]]
    pooling = _settings(files, f"{pooling_folder}/config.json")
    modes = _modes(files, pooling)
    prepared = _prepared(files, str(modules[0]["path"]))
    steps = [_step(files, kind, folder) for kind, folder in zip(kinds[2:], folders, strict=True)]
    main = _settings(files, MAIN_CONFIG, default={})
    prompt, truncated = _prompt(files, main), _truncated(files, main)
    words = [" and ".join(modes) + " of the tokens", *(text for text, _ in steps)]
    if prompt:
        words.insert(0, f"prompt {prompt!r}")
    if truncated:
        words.append(f"the first {truncated} numbers")
    return SentencePipeline(
        modes=modes,
        steps=tuple(step for _, step in steps),
        prompt=prompt,
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


def _settings(files: ModelFiles, file: str, default: Any = None) -> dict[str, Any]:
    found = files.json(file)
    found = default if found is None else found
    if not isinstance(found, dict):
        state = "is no JSON object" if found is not None else "is missing"
        raise ModelError(f"model {files.name!r}: {file} {state}; fetch the model again")
    return found


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
    values = _settings(files, prefix + name)
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


def _prompt(files: ModelFiles, values: Mapping[str, Any]) -> str:
    name, prompts = values.get("default_prompt_name"), values.get("prompts") or {}
    if name is None:
        return ""
    if not isinstance(prompts, dict) or not isinstance(prompts.get(name), str):
        raise ModelError(
            f"model {files.name!r}: {MAIN_CONFIG} has no prompt {name!r}, its default one"
        )
    return str(prompts[name])


def _step(files: ModelFiles, kind: str, folder: str) -> tuple[str, Step]:
    """Return a module behind the pooling, and its name for people."""
    values = _settings(files, f"{folder}/config.json", default={} if kind == "Normalize" else None)
    for key in ("module_input_name", "module_output_name"):
        if values.get(key) not in (None, _EMBEDDING):
            raise ModelError(
                f"model {files.name!r}: {folder} works on {values[key]!r}, which is not known here"
            )
    if kind == "Normalize":
        return "normalised", lambda embeddings: F.normalize(embeddings, dim=1)
    if kind == "Dense":
        return _dense(files, folder, values)
    raise ModelError(f"model {files.name!r} has a second {kind} in {folder}; it cannot be used")


def _dense(files: ModelFiles, folder: str, values: Mapping[str, Any]) -> tuple[str, Step]:
    path = str(values.get("activation_function", "torch.nn.modules.activation.Tanh"))
    package, _, kind = path.rpartition(".")
    if not package.startswith("torch.nn") or kind not in _ACTIVATIONS:
        raise ModelError(
            f"model {files.name!r}: the activation {path} of {folder} is not known here; known are "
            f"{', '.join(_ACTIVATIONS)} of torch.nn"
        )
    weights = _dense_weights(files, folder)
    names = {"linear.weight"} | ({"linear.bias"} if values.get("bias", True) else set())
    is_projected = "residual.weight" in weights
    if weights.keys() - {"residual.weight"} != names:
        raise ModelError(
            f"model {files.name!r}: the weights of {folder} are {', '.join(sorted(weights))}, not "
            f"{', '.join(sorted(names))}"
        )
    activation = _ACTIVATIONS[kind]()
    has_residual = bool(values.get("use_residual"))

    def step(embeddings: Tensor) -> Tensor:
        found = F.linear(embeddings, weights["linear.weight"], weights.get("linear.bias"))
        out = cast(Tensor, activation(found))
        if not has_residual:
            return out
        past = F.linear(embeddings, weights["residual.weight"]) if is_projected else embeddings
        return out + past

    size = "×".join(map(str, reversed(weights["linear.weight"].shape)))
    return f"a dense layer of {size}", step


def _dense_weights(files: ModelFiles, folder: str) -> dict[str, Tensor]:
    try:
        if file := files.path(f"{folder}/model.safetensors"):
            weights = load_file(file)
        elif file := files.path(f"{folder}/pytorch_model.bin"):
            weights = torch.load(file, map_location="cpu", weights_only=True)
        else:
            raise ModelError(f"model {files.name!r} lacks the weights of {folder}; fetch it again")
    except (SafetensorError, pickle.UnpicklingError, RuntimeError, EOFError, OSError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise ModelError(
            f"model {files.name!r}: cannot read the weights of {folder}: {reason}"
        ) from error
    return {name: tensor.float() for name, tensor in weights.items()}
