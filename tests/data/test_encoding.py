from __future__ import annotations

import string
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from tokenizers import (
    AddedToken,
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    trainers,
)
from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast

import tamtctl.data.tokenization
from tamtctl.data.tokenization import LineTokenizer

SAMPLE = [
    "The lottery ticket hypothesis: sub-networks, naïve [MASK] masks. 中文 étude",
    "a b\tc",
] * 4

# Random Unicode rarely hits what is special to tokenizers, so that is thrown in on purpose.
TRICKY = st.one_of(
    st.sampled_from(["[MASK]", "[mask]", "[SEP][MASK]", "[MA SK]", "<mask>", " <mask> ", "<s>"]),
    st.sampled_from(["foo", "Foo", "(foo)", "X.Y", "x.yz", "a" * 101, "a" * 100, "##ing", "it's"]),
    st.sampled_from(["\u00a0", "\u2028", "\u3000", "\x1c", "\x85", "\t", "\r", "\x0b", "\x7f"]),
    st.sampled_from(["  ", " \u0301", "e\u0301", "\u0300\u0301", "\u200b", "\ufeff", "\u2581"]),
    st.sampled_from(["É", "ﬁ", "İ", "ς", "Σ", "中文", "한", "\u1100\u1161", "½", "¨", "\ud7ff"]),
)
CHARACTERS = st.characters(exclude_categories=["Cs"], exclude_characters="\n")
LINE = st.lists(TRICKY | st.text(CHARACTERS, max_size=8) | st.just(" "), max_size=12).map("".join)
LINES = st.lists(LINE, max_size=5)

property_test = settings(
    max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


def own_ids(tokenizer: PreTrainedTokenizerBase, lines: list[str]) -> list[int]:
    return [i for line in lines for i in tokenizer(line, add_special_tokens=False)["input_ids"]]


def wrap(backend: Tokenizer, **special: Any) -> PreTrainedTokenizerBase:
    return PreTrainedTokenizerFast(tokenizer_object=backend, **special)


def word_piece(
    normalizer: normalizers.Normalizer | None,
    pre_tokenizer: pre_tokenizers.PreTokenizer | None,
    *added: AddedToken,
) -> PreTrainedTokenizerBase:
    signs = string.ascii_letters + string.punctuation + "éß中文\u0301"
    pieces = ["[UNK]", "[MASK]", "foo", *signs, *(f"##{sign}" for sign in signs)]
    backend = Tokenizer(models.WordPiece({p: i for i, p in enumerate(pieces)}, unk_token="[UNK]"))
    if normalizer is not None:
        backend.normalizer = normalizer
    if pre_tokenizer is not None:
        backend.pre_tokenizer = pre_tokenizer
    backend.add_special_tokens(["[UNK]", "[MASK]"])
    backend.add_tokens(list(added))
    return wrap(backend, unk_token="[UNK]", mask_token="[MASK]")


@pytest.fixture(scope="module")
def byte_level() -> PreTrainedTokenizerBase:
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=320,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        special_tokens=["<s>"],
        show_progress=False,
    )
    backend.train_from_iterator(SAMPLE, trainer)
    backend.add_special_tokens([AddedToken("<mask>", lstrip=True)])
    return wrap(backend, mask_token="<mask>")


@pytest.fixture(scope="module")
def unigram() -> PreTrainedTokenizerBase:
    backend = Tokenizer(models.Unigram())
    backend.normalizer = normalizers.NFKC()
    backend.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace()]
    )
    trainer = trainers.UnigramTrainer(
        vocab_size=80, special_tokens=["<unk>", "<mask>"], unk_token="<unk>", show_progress=False
    )
    backend.train_from_iterator(SAMPLE, trainer)
    return wrap(backend, unk_token="<unk>", mask_token="<mask>")


@property_test
@given(lines=LINES)
@example(lines=["a [MASK] b[MASK]c", "", " ", "\u0301", "x" * 300 + " y"])
def test_ids_are_those_of_a_bert_tokenizer(
    bert_tokenizer: PreTrainedTokenizerBase, lines: list[str]
) -> None:
    encoder = LineTokenizer(bert_tokenizer)
    assert encoder.caches_chunks
    for _ in range(2):  # cold, then warm
        assert encoder.encode(lines).tolist() == own_ids(bert_tokenizer, lines)


LOCAL = {
    "whitespace": word_piece(None, pre_tokenizers.Whitespace()),
    "NFC": word_piece(normalizers.NFC(), pre_tokenizers.WhitespaceSplit()),
    "NFKD": word_piece(
        normalizers.Sequence(
            [normalizers.NFKD(), normalizers.Lowercase(), normalizers.StripAccents()]
        ),
        pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Punctuation()]),
    ),
    "added": word_piece(
        normalizers.BertNormalizer(),
        pre_tokenizers.BertPreTokenizer(),
        AddedToken("<mask>", lstrip=True, rstrip=True, normalized=False, special=True),
        AddedToken("foo", single_word=True),
        AddedToken("Étude", normalized=True),
        AddedToken("x.y", normalized=True),
    ),
}


@pytest.mark.parametrize("name", LOCAL)
@property_test
@given(lines=LINES)
def test_ids_are_those_of_any_tokenizer_whose_chunks_are_cached(
    name: str, lines: list[str]
) -> None:
    encoder = LineTokenizer(LOCAL[name])
    assert encoder.caches_chunks
    assert encoder.encode(lines).tolist() == own_ids(LOCAL[name], lines)


@property_test
@given(lines=LINES)
def test_ids_are_those_of_a_byte_level_tokenizer(
    byte_level: PreTrainedTokenizerBase, lines: list[str]
) -> None:
    encoder = LineTokenizer(byte_level)
    assert not encoder.caches_chunks
    assert encoder.encode(lines).tolist() == own_ids(byte_level, lines)


@property_test
@given(lines=LINES)
def test_ids_are_those_of_a_unigram_tokenizer(
    unigram: PreTrainedTokenizerBase, lines: list[str]
) -> None:
    encoder = LineTokenizer(unigram)
    assert not encoder.caches_chunks
    assert encoder.encode(lines).tolist() == own_ids(unigram, lines)


NOT_LOCAL = {
    "no pre-tokenizer": word_piece(None, None),
    "keeps spaces": word_piece(None, pre_tokenizers.Punctuation()),
    "space in an added token": word_piece(
        None, pre_tokenizers.WhitespaceSplit(), AddedToken("foo bar")
    ),
    "space in a normalized added token": word_piece(
        normalizers.BertNormalizer(), pre_tokenizers.WhitespaceSplit(), AddedToken("a\tb")
    ),
    "replaces": word_piece(normalizers.Replace("a b", "c"), pre_tokenizers.WhitespaceSplit()),
}


@pytest.mark.parametrize("name", NOT_LOCAL)
def test_what_sees_across_spaces_is_tokenised_by_lines(name: str) -> None:
    encoder = LineTokenizer(NOT_LOCAL[name])
    lines = ["a b foo bar", "x a\tb a b, c"]
    assert not encoder.caches_chunks
    assert encoder.encode(lines).tolist() == own_ids(NOT_LOCAL[name], lines)


def test_truncation_and_padding_of_the_tokenizer_change_nothing(
    bert_tokenizer: PreTrainedTokenizerBase,
) -> None:
    lines = ["the lottery ticket " * 50]
    expected = own_ids(bert_tokenizer, lines)
    digest = LineTokenizer(bert_tokenizer).digest
    bert_tokenizer("the lottery", truncation=True, padding="max_length", max_length=4)
    encoder = LineTokenizer(bert_tokenizer)
    assert encoder.encode(lines).tolist() == expected
    assert encoder.digest == digest
    bert_tokenizer("the lottery")


def test_special_tokens_are_split_where_the_tokenizer_says_so() -> None:
    tokenizer = word_piece(None, pre_tokenizers.Whitespace())
    whole = LineTokenizer(tokenizer)
    tokenizer.split_special_tokens = True
    split = LineTokenizer(tokenizer)
    assert split.encode(["a[MASK]"]).tolist() == own_ids(tokenizer, ["a[MASK]"])
    assert len(split.encode(["a[MASK]"])) > len(whole.encode(["a[MASK]"])) == 2
    assert split.digest != whole.digest


def test_the_chunk_cache_is_bounded(
    bert_tokenizer: PreTrainedTokenizerBase, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tamtctl.data.tokenization, "_CACHE_SIZE", 10_000)
    encoder = LineTokenizer(bert_tokenizer)
    for batch in range(50):
        lines = [f"{batch} {i} x{i} ticket" for i in range(100 * batch, 100 * batch + 100)]
        assert encoder.encode(lines).tolist() == own_ids(bert_tokenizer, lines)
        assert len(encoder._ids_of_chunk) < 1_000


@pytest.mark.parametrize(("entries", "dtype"), [(65_535, "<u2"), (65_536, "<u4")])
def test_the_width_of_ids_follows_the_vocabulary(entries: int, dtype: str) -> None:
    backend = Tokenizer(models.WordLevel({f"w{i}": i for i in range(entries)}, unk_token="w0"))
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    encoder = LineTokenizer(wrap(backend))
    assert encoder.dtype == np.dtype(dtype)
    assert encoder.encode([f"w{entries - 1} w1"]).tolist() == [entries - 1, 1]


def test_no_lines_are_no_tokens(
    bert_tokenizer: PreTrainedTokenizerBase, byte_level: PreTrainedTokenizerBase
) -> None:
    assert len(LineTokenizer(bert_tokenizer).encode([])) == 0
    assert len(LineTokenizer(byte_level).encode([])) == 0


@pytest.mark.parametrize("name", [*LOCAL, *NOT_LOCAL])
@property_test
@given(lines=LINES)
def test_ids_of_each_line(name: str, lines: list[str]) -> None:
    tokenizer = (LOCAL | NOT_LOCAL)[name]
    encoder = LineTokenizer(tokenizer)
    ids, counts = encoder.encode_each(lines)
    assert ids.tolist() == encoder.encode(lines).tolist()
    assert counts.tolist() == [len(own_ids(tokenizer, [line])) for line in lines]
