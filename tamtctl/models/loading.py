"""Loading a checkpoint: its encoder with or without a head, its configuration and its tokenizer."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForMaskedLM,
    AutoTokenizer,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    PreTrainedTokenizerFast,
)
from transformers.models.auto.modeling_auto import MODEL_FOR_MASKED_LM_MAPPING

from tamtctl.foundations.errors import ModelError, NoHeadError
from tamtctl.foundations.files import give_usual_rights
from tamtctl.foundations.one_at_a_time import one_thread_at_a_time
from tamtctl.models.class_names import restore_class_names
from tamtctl.models.encoder import Encoder, base_encoder, embedding_names, maskable_matrices
from tamtctl.models.library_loading import load_by_library
from tamtctl.models.sources import commit_of, source_of
from tamtctl.models.structures import with_biases

# Keys of a configuration that do not change the model.
NO_PART_OF_A_MODEL = ("_name_or_path", "transformers_version", "dtype", "torch_dtype")


@one_thread_at_a_time
def load_encoder(name: str, *, with_head: bool, revision: str | None = None) -> Encoder:
    """Load a pre-trained encoder and its tokenizer in float32.

    Args:
        name: ``nano``, a folder, or a Hub id.
        with_head: Also load the pre-trained masked-LM head; the checkpoint must hold one.
        revision: Branch, tag or commit on the Hub.

    Raises:
        ModelError: The model is not found, the network is down, or it is not an encoder, has no
            weights or has no fast tokenizer.
        NoHeadError: ``with_head`` is set, and the checkpoint has no masked-LM head.
    """
    source = source_of(name)
    config = load_config(name, revision)
    commit = commit_of(name, revision)
    tokenizer = load_tokenizer(name, commit)
    if (largest := max(tokenizer.get_vocab().values())) >= config.vocab_size:
        raise ModelError(
            f"the tokenizer of model {name!r} has ids up to {largest}, but the model knows "
            f"{config.vocab_size} tokens; save the tokenizer that belongs to it"
        )
    model, loading = _load_weights(AutoModel, name, source, commit)
    if not isinstance(model.get_input_embeddings(), nn.Embedding):
        raise ModelError(
            f"model {name!r} is a {type(model).__name__}, which looks up no words in a table; give "
            "an encoder like BERT"
        )
    pooler_names = _names_without_hidden_state(model, config)
    unreached = frozenset(with_biases(pooler_names))
    refuse_lost(name, loading["missing_keys"] - unreached)
    weights = maskable_matrices(model)
    pooler = {
        n: weights[n].detach().clone()
        for n in pooler_names & weights.keys() - loading["missing_keys"]
    }
    if with_head:
        model, loading = _load_weights(AutoModelForMaskedLM, name, source, commit)
        if loading["missing_keys"]:
            raise NoHeadError(
                f"model {name!r} has no pre-trained masked-LM head (the checkpoint lacks "
                f"{min(loading['missing_keys'])}); use --objective kd, which needs none"
            )
        if computes_with_embeddings(model):
            raise NoHeadError(
                f"the masked-LM head of model {name!r} computes with the word embeddings "
                "themselves, which a mask changes; use --objective kd, which needs no head"
            )
    _check_finite(name, model)
    matrices = {n: p for n, p in maskable_matrices(model).items() if n not in pooler_names}
    in_layers = {name for name in matrices if "pooler" not in name} - embedding_names(model)
    if not in_layers:
        raise ModelError(
            f"the layers of model {name!r}, a {type(model).__name__}, have no linear layer that a "
            "mask could cover; give an encoder like BERT"
        )
    return Encoder(name, commit, model.eval(), tokenizer, matrices, pooler, unreached)


def refuse_lost(name: str, lost: Iterable[str]) -> None:
    """Raise ModelError if there are weights of the encoder that its checkpoint lacks."""
    if names := sorted(lost):
        raise ModelError(
            f"model {name!r} lacks {len(names)} of the encoder's weights, for example {names[0]}; "
            "without them it would run on random numbers: give a complete checkpoint"
        )


def computes_with_embeddings(model: PreTrainedModel) -> bool:
    """Whether a masked-LM head computes with the word embeddings, which a mask would change."""
    decoder: Any = model.get_output_embeddings()
    return decoder is not None and len(decoder.weight) != model.config.vocab_size


def _check_finite(name: str, model: PreTrainedModel) -> None:
    """Refuse a model with infinite or NaN weights."""
    for parameter_name, parameter in model.named_parameters():
        if not bool(torch.isfinite(parameter).all()):
            raise ModelError(
                f"model {name!r} holds numbers that are not finite, in {parameter_name}; give an "
                "intact checkpoint"
            )


@one_thread_at_a_time
def load_config(name: str, revision: str | None = None) -> PreTrainedConfig:
    """Load only the configuration of an encoder.

    Raises:
        ModelError: The model is not found, the network is down, or it is not an encoder.
    """
    config, written = load_by_library(AutoConfig.from_pretrained, name, source_of(name), revision)
    restore_class_names(config, written)
    _refuse_other_architectures(name, config)
    return cast(PreTrainedConfig, config)


@one_thread_at_a_time
def load_with_task_head(
    auto: Any, name: str, *, revision: str | None = None, **head: Any
) -> tuple[PreTrainedModel, set[str]]:
    """Load an encoder with the head of a task in float32; what the checkpoint lacks is random.

    Args:
        auto: ``AutoModelForSequenceClassification`` or the like.
        name: ``nano``, a folder, or a Hub id.
        revision: Branch, tag or commit on the Hub.
        **head: Values of the head's configuration.

    Returns:
        The model, and the names of its parameters that the checkpoint lacks. With
        ``ignore_mismatched_sizes`` a head of another size is random, and not among them.

    Raises:
        ModelError: It cannot be loaded, or lacks weights of the encoder itself.
    """
    model, missing, _ = load_with_head(auto, name, revision=revision, **head)
    return model, missing


@one_thread_at_a_time
def load_with_head(
    auto: Any, name: str, *, revision: str | None = None, **head: Any
) -> tuple[PreTrainedModel, set[str], set[str]]:
    """Do as `load_with_task_head`, and also return the checkpoint's unused tensors by name."""
    model, loading = _load_weights(auto, name, source_of(name), revision, **head)
    prefix = model.base_model_prefix + "."
    misshapen = {str(key[0]) for key in loading["mismatched_keys"]}  # (name, its shapes)
    if wrong := sorted(n for n in misshapen if n.startswith(prefix)):
        raise ModelError(
            f"model {name!r}: {wrong[0]} is not of the shape that config.json says; give a "
            "checkpoint whose files belong together"
        )
    missing = loading["missing_keys"] - misshapen
    refuse_lost(name, (n for n in missing if n.startswith(prefix) and ".pooler." not in n))
    return model, missing, set(loading["unexpected_keys"])


@one_thread_at_a_time
def load_tokenizer(name: str, revision: str | None = None) -> PreTrainedTokenizerFast:
    """Load only the tokenizer of a model; raises ModelError as `load_encoder` does."""
    tokenizer, _ = load_by_library(AutoTokenizer.from_pretrained, name, source_of(name), revision)
    # If a tokenizer's files are missing, transformers makes one with only special tokens.
    if not tokenizer.is_fast or len(tokenizer) <= len(tokenizer.all_special_tokens):
        raise ModelError(
            f"model {name!r} has no fast tokenizer; save one beside it (tokenizer.json)"
        )
    return cast(PreTrainedTokenizerFast, tokenizer)


@one_thread_at_a_time
def save_model(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    folder: Path,
    state: Mapping[str, Tensor] | None = None,
) -> None:
    """Write a checkpoint that ``from_pretrained`` loads.

    Args:
        model: The model, whose class is written into the configuration.
        tokenizer: The model's tokenizer.
        folder: The folder to write to; it must exist.
        state: Name → tensor of what to save of the model; by default everything.
    """
    forget_code(model, tokenizer)
    model.save_pretrained(folder, state_dict=None if state is None else dict(state))
    tokenizer.save_pretrained(folder)
    for file in folder.glob("*.safetensors"):
        give_usual_rights(file)  # safetensors makes it readable for its owner alone


def forget_code(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> bool:
    """Remove a model's references to Python code of its own, which is never copied.

    Returns:
        Whether there were any.
    """
    told: Any = tokenizer
    named = hasattr(model.config, "auto_map") or "auto_map" in told.init_kwargs
    model.config.__dict__.pop("auto_map", None)
    told.init_kwargs.pop("auto_map", None)
    told._auto_map = None
    return named


def _refuse_other_architectures(name: str, config: PreTrainedConfig) -> None:
    """Refuse decoders and encoder-decoders: the objectives need bidirectional hidden states."""
    is_encoder = type(config) in MODEL_FOR_MASKED_LM_MAPPING and not (
        config.is_encoder_decoder or getattr(config, "is_decoder", False)
    )
    if not is_encoder:
        raise ModelError(
            f"model {name!r} ({config.model_type}) is not a masked-language-model encoder; "
            "give an encoder such as bert-base-uncased or roberta-base"
        )


def _load_weights(
    auto: Any, name: str, source: str, revision: str | None, **options: Any
) -> tuple[PreTrainedModel, dict[str, set[str]]]:
    (model, loading), written = load_by_library(
        auto.from_pretrained,
        name,
        source,
        revision,
        # The default, "auto", would keep a half-precision checkpoint in half precision.
        dtype=torch.float32,
        output_loading_info=True,
        **options,
    )
    _part(model)
    switch: Any = getattr(base_encoder(model), "set_attention_type", None)
    if switch is not None:
        # BigBird would go over to full attention with the first short batch, and stay there.
        switch("original_full")
    if not options.keys() & {"num_labels", "id2label", "label2id"}:
        restore_class_names(model.config, written)
    return cast(PreTrainedModel, model), cast(dict[str, set[str]], loading)


def _part(model: PreTrainedModel) -> None:
    """Give parameters that are parts of one tensor memory of their own.

    transformers splits the fused queries, keys and values of some checkpoints into such parts, and
    to autograd a change of one is a change of all.
    """
    in_memory: dict[int, list[nn.Parameter]] = {}
    for parameter in model.parameters():
        in_memory.setdefault(parameter.untyped_storage().data_ptr(), []).append(parameter)
    apart = {
        id(one): nn.Parameter(one.detach().clone(), requires_grad=one.requires_grad)
        for those in in_memory.values()
        for one in those
        if len(those) > 1
    }
    for module in cast(nn.Module, model).modules():
        for name, parameter in dict(module.named_parameters(recurse=False)).items():
            if id(parameter) in apart:
                module.register_parameter(name, apart[id(parameter)])


def _names_without_hidden_state(model: PreTrainedModel, config: PreTrainedConfig) -> set[str]:
    """Return the names of matrices that a masked-LM model lacks: the pooler's, if any."""
    with torch.device("meta"):
        token_level = AutoModelForMaskedLM.from_config(config, trust_remote_code=False)
    return maskable_matrices(model).keys() - maskable_matrices(token_level).keys()
