"""A trimmed tokenizer cuts the text that it was trimmed for as the original does."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import (
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
    trainers,
)
from transformers import PreTrainedTokenizerFast

from tamtctl.models.trimmed_tokenizer import TrimmedTokenizer

SPECIAL = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
WORDS = (
    "lower lowest newer newest wider widest slow slower low new wide bow boward été naïve".split()
)
TEXT = [" ".join(WORDS[at:] + WORDS[:at]) for at in range(len(WORDS))]
texts = st.lists(st.sampled_from([*WORDS, "bowest", "tées", "new-slow"]), min_size=1, max_size=6)


def _trained(kind: str) -> PreTrainedTokenizerFast:
    """A small tokenizer of a kind, which has learnt its vocabulary from the words."""
    trainer: trainers.Trainer
    common: dict[str, Any] = {"vocab_size": 90, "special_tokens": SPECIAL, "show_progress": False}
    if kind == "wordpiece":
        backend = Tokenizer(models.WordPiece(unk_token="<unk>"))
        backend.normalizer = normalizers.BertNormalizer()
        backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
        trainer = trainers.WordPieceTrainer(**common)
    elif kind == "bytes":
        backend = Tokenizer(models.BPE())
        backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        backend.decoder = decoders.ByteLevel()
        alphabet = pre_tokenizers.ByteLevel.alphabet()
        trainer = trainers.BpeTrainer(**common | {"vocab_size": 330}, initial_alphabet=alphabet)
    elif kind == "suffix":
        backend = Tokenizer(models.BPE(unk_token="<unk>", end_of_word_suffix="</w>"))
        backend.pre_tokenizer = pre_tokenizers.Whitespace()
        trainer = trainers.BpeTrainer(**common, end_of_word_suffix="</w>")
    elif kind == "unigram":
        backend = Tokenizer(models.Unigram())
        backend.pre_tokenizer = pre_tokenizers.Metaspace()
        trainer = trainers.UnigramTrainer(**common, unk_token="<unk>")
    else:
        backend = Tokenizer(models.WordLevel(unk_token="<unk>"))
        backend.pre_tokenizer = pre_tokenizers.Whitespace()
        trainer = trainers.WordLevelTrainer(**common)
    backend.train_from_iterator(TEXT * 3, trainer)
    ends = [(token, SPECIAL.index(token)) for token in ("</s>", "<s>")]
    template = processors.RobertaProcessing(ends[0], ends[1]) if kind == "bytes" else (
        processors.TemplateProcessing(single="<s> $A </s>", special_tokens=ends)
    )  # fmt: skip
    backend.post_processor = template
    return PreTrainedTokenizerFast(
        tokenizer_object=backend, bos_token="<s>", pad_token="<pad>", eos_token="</s>",
        unk_token="<unk>", mask_token="<mask>", cls_token="<s>", sep_token="</s>",
    )  # fmt: skip


KINDS = ("wordpiece", "bytes", "suffix", "unigram", "words")
TOKENIZERS = {kind: _trained(kind) for kind in KINDS}


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=25)
@given(words=texts, others=texts)
def test_a_text_is_cut_as_before(kind: str, words: list[str], others: list[str]) -> None:
    original = TOKENIZERS[kind]
    text = " ".join(words)
    used = original(text)["input_ids"]
    trimmed = TrimmedTokenizer.of(original, used)
    new = trimmed.tokenizer
    assert [trimmed.kept[i] for i in new(text)["input_ids"]] == used
    assert new.convert_ids_to_tokens(new(text)["input_ids"]) == original.convert_ids_to_tokens(used)
    assert len(new) == len(trimmed.kept) <= len(original)
    for name in ("pad", "mask", "unk", "cls", "sep"):
        assert trimmed.kept[getattr(new, f"{name}_token_id")] == getattr(
            original, f"{name}_token_id"
        )
    # Whatever is read later is still read, of single characters at worst.
    other = " ".join(others)
    if kind != "words":
        assert new.decode(new(other)["input_ids"]).count("<unk>") <= original.decode(
            original(other)["input_ids"]
        ).count("<unk>")


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_not_used_is_left_out_and_stays_so(kind: str, tmp_path: Path) -> None:
    original = TOKENIZERS[kind]
    used = original("low new")["input_ids"]
    trimmed = TrimmedTokenizer.of(original, used)
    assert set(used) <= set(trimmed.kept) < set(range(len(original)))
    trimmed.tokenizer.save_pretrained(tmp_path)
    again = PreTrainedTokenizerFast.from_pretrained(tmp_path)
    assert again("low new")["input_ids"] == trimmed.tokenizer("low new")["input_ids"]
    told = json.loads((tmp_path / "tokenizer.json").read_text())["model"]
    if kind == "bytes":
        assert {*pre_tokenizers.ByteLevel.alphabet()} <= told["vocab"].keys()
        assert 0 < len(told["merges"]) < 60
