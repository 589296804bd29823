"""Tiny random encoders of every family, with a real fast tokenizer, saved as checkpoints."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForMaskedLM,
    PreTrainedModel,
    PreTrainedTokenizerFast,
)

WORDS = (
    "the a of to and in is that it for as with was on by be are this from or an which not at one "
    "have you all can has their more its when will two file time data type list name set value"
).split()
SPECIAL = ["[PAD]", "[CLS]", "[SEP]", "[UNK]", "[MASK]"]
VOCABULARY = SPECIAL + WORDS + list("bcdefghjklmnopqrstuvwxyz.,") + [f"##{c}" for c in "aeioursnt"]

_COMMON: dict[str, Any] = {
    "vocab_size": len(VOCABULARY),
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "max_position_embeddings": 40,
    "pad_token_id": 0,
}
FAMILIES: dict[str, dict[str, Any]] = {
    "bert": _COMMON,
    "roberta": _COMMON,
    "xlm-roberta": _COMMON,
    "camembert": _COMMON,
    "distilbert": {
        "vocab_size": len(VOCABULARY),
        "dim": 16,
        "n_layers": 2,
        "n_heads": 2,
        "hidden_dim": 32,
        "max_position_embeddings": 40,
    },
    "electra": _COMMON | {"embedding_size": 8},
    "albert": _COMMON | {"embedding_size": 8},
    "mpnet": _COMMON,
    "deberta-v2": _COMMON
    | {"relative_attention": True, "pos_att_type": ["p2c", "c2p"], "conv_kernel_size": 3},
    "modernbert": _COMMON
    | {"bos_token_id": 1, "eos_token_id": 2, "cls_token_id": 1, "sep_token_id": 2},
}
# Encoders that are built in other ways; not every test is for them.
OTHERS: dict[str, dict[str, Any]] = {
    "gte": _COMMON,  # its queries, keys and values are split out of one tensor
    "roc_bert": _COMMON  # writes into outputs of its layers
    | {
        "pronunciation_vocab_size": 10,
        "pronunciation_embed_dim": 4,
        "shape_vocab_size": 10,
        "shape_embed_dim": 4,
    },
    "longformer": _COMMON | {"attention_window": [4, 4]},  # pads, and has sequences behind tokens
    "big_bird": _COMMON | {"block_size": 2, "num_random_blocks": 1},  # changes its attention
    "squeezebert": _COMMON | {"embedding_size": 16},  # has convolutions for linear layers
    "xmod": _COMMON | {"languages": ["en_XX", "de_DE"], "default_language": "en_XX"},  # adapters
    "ibert": _COMMON,  # has a table of another class
    "funnel": {  # halves the number of tokens
        "vocab_size": len(VOCABULARY),
        "d_model": 16,
        "n_head": 2,
        "d_head": 8,
        "d_inner": 32,
        "block_sizes": [1, 1],
        "num_decoder_layers": 1,
    },
}


def tokenizer() -> PreTrainedTokenizerFast:
    backend = Tokenizer(
        models.WordPiece({t: i for i, t in enumerate(VOCABULARY)}, unk_token="[UNK]")
    )
    backend.normalizer = normalizers.BertNormalizer(lowercase=True)
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    backend.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B [SEP]",
        special_tokens=[("[CLS]", 1), ("[SEP]", 2)],
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        pad_token="[PAD]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        unk_token="[UNK]",
        mask_token="[MASK]",
    )


def build(family: str, *, with_head: bool = True, seed: int = 0, **changes: Any) -> PreTrainedModel:
    """Return a random model of a family in eval mode, its weights large enough for gradients."""
    config = AutoConfig.for_model(family, **(FAMILIES | OTHERS)[family] | changes)
    torch.manual_seed(seed)
    auto = AutoModelForMaskedLM if with_head else AutoModel
    model: PreTrainedModel = auto.from_config(config).eval()  # type: ignore[no-untyped-call]
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() >= 2:
                parameter.normal_(0, 0.2)
    return model


def save(folder: Path, family: str, *, with_head: bool = True, **changes: Any) -> Path:
    """Save a random checkpoint with its tokenizer, as a user's model folder would be."""
    build(family, with_head=with_head, **changes).save_pretrained(folder)
    tokenizer().save_pretrained(folder)
    return folder
