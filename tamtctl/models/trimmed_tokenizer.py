"""A tokenizer without the tokens that a text does not use; it cuts that text as before.

It keeps the tokens that are used, special and added tokens, and every single character or byte, so
that any other text can still be cut. Byte pair encoding also needs all tokens from which a kept one
can be merged. The text is then cut as before: WordPiece takes the longest match, byte pairs are
merged in the same order, and the best cut of a unigram model stays the best (Kudo, 2018,
arXiv:1804.10959).
"""

from __future__ import annotations

import json
import re
import tempfile
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from transformers import PreTrainedTokenizerFast

from tamtctl.models.files import TOKENIZER_FILE

_SETTINGS_FILE = "tokenizer_config.json"
_BYTE = re.compile(r"<0x[0-9A-F]{2}>")  # byte fallback: the spelling of bytes that no token covers
_WORD_START = "▁"  # of SentencePiece


@dataclass(frozen=True)
class TrimmedTokenizer:
    """A tokenizer with fewer tokens.

    Attributes:
        tokenizer: The trimmed tokenizer.
        kept: The original id of each token that is left, in the order of the new ids.
    """

    tokenizer: PreTrainedTokenizerFast
    kept: tuple[int, ...]

    @classmethod
    def of(cls, tokenizer: PreTrainedTokenizerFast, used: Iterable[int]) -> TrimmedTokenizer:
        """Leave out the tokens that are not used.

        Args:
            tokenizer: The original.
            used: Original ids of the tokens that must stay.
        """
        with tempfile.TemporaryDirectory() as room:
            folder = Path(room)
            tokenizer.save_pretrained(folder)
            told = json.loads((folder / TOKENIZER_FILE).read_text(encoding="utf-8"))
            kept = sorted(_needed(told, frozenset(used)))
            new = {old: place for place, old in enumerate(kept)}
            _renumber(told, new)
            (folder / TOKENIZER_FILE).write_text(json.dumps(told), encoding="utf-8")
            settings = json.loads((folder / _SETTINGS_FILE).read_text(encoding="utf-8"))
            if added := settings.get("added_tokens_decoder"):
                settings["added_tokens_decoder"] = {str(new[int(i)]): t for i, t in added.items()}
            (folder / _SETTINGS_FILE).write_text(json.dumps(settings), encoding="utf-8")
            for file in set(tokenizer.vocab_files_names.values()) - {TOKENIZER_FILE}:
                (folder / file).unlink(missing_ok=True)  # they hold the whole vocabulary
            return cls(type(tokenizer).from_pretrained(folder), tuple(kept))


def _needed(told: Mapping[str, Any], used: frozenset[int]) -> set[int]:
    """Return the ids in a ``tokenizer.json`` that have to stay."""
    model = told["model"]
    vocabulary = _vocabulary(model)
    needed = {one["id"] for one in told["added_tokens"]}
    needed |= _put_around(told)
    needed |= {i for token, i in vocabulary.items() if i in used or _is_single(token, model)}
    unknown = model.get("unk_token")
    if unknown in vocabulary:
        needed.add(vocabulary[unknown])
    if model.get("unk_id") is not None:
        needed.add(model["unk_id"])
    if merges := model.get("merges"):
        parts = _parts(merges, model, vocabulary)
        to_see = list(needed)
        while to_see:
            for pair in parts.get(to_see.pop(), ()):
                to_see += [part for part in pair if part not in needed]
                needed.update(pair)
    return needed


def _put_around(told: Mapping[str, Any]) -> set[int]:
    """Return the ids of the tokens that pad a text, or stand around it."""
    padding, found = told.get("padding"), set[int]()
    if padding:
        found.add(padding["pad_id"])
    processors = [told.get("post_processor") or {}]
    while processors:
        one = processors.pop()
        processors += one.get("processors", ())
        found |= {one[end][1] for end in ("sep", "cls") if end in one}
        found |= {i for of in (one.get("special_tokens") or {}).values() for i in of["ids"]}
    return found


def _vocabulary(model: Mapping[str, Any]) -> dict[str, int]:
    """Return token → id."""
    if model["type"] == "Unigram":
        return {token: place for place, (token, _) in enumerate(model["vocab"])}
    return dict(model["vocab"])


def _is_single(token: str, model: Mapping[str, Any]) -> bool:
    """Return whether a token is one character or byte, at the start of a word or within it."""
    bare = token.removeprefix(model.get("continuing_subword_prefix") or "")
    bare = bare.removesuffix(model.get("end_of_word_suffix") or "")
    bare = bare if len(bare) == 1 else bare.removeprefix(_WORD_START)
    return len(bare) == 1 or _BYTE.fullmatch(bare) is not None


def _parts(
    merges: Iterable[Any], model: Mapping[str, Any], vocabulary: Mapping[str, int]
) -> dict[int, list[tuple[int, int]]]:
    """Return id → the pairs of ids that are merged into it."""
    found: dict[int, list[tuple[int, int]]] = {}
    for merge in merges:
        pair = _pair(merge)
        result = vocabulary.get(_merged(pair, model))
        if result is not None:
            found.setdefault(result, []).append((vocabulary[pair[0]], vocabulary[pair[1]]))
    return found


def _pair(merge: Any) -> tuple[str, str]:
    left, right = merge.split(" ") if isinstance(merge, str) else merge
    return left, right


def _merged(pair: tuple[str, str], model: Mapping[str, Any]) -> str:
    return pair[0] + pair[1].removeprefix(model.get("continuing_subword_prefix") or "")


def _renumber(told: dict[str, Any], new: Mapping[int, int]) -> None:
    """Remove tokens without a new id from a ``tokenizer.json``; renumber the others."""
    model = told["model"]
    if model["type"] == "Unigram":
        model["vocab"] = [model["vocab"][old] for old in new if old < len(model["vocab"])]
    else:
        model["vocab"] = {t: new[old] for t, old in model["vocab"].items() if old in new}
    if model.get("unk_id") is not None:
        model["unk_id"] = new[model["unk_id"]]
    if model.get("merges"):
        model["merges"] = [m for m in model["merges"] if _is_left(_pair(m), model)]
    for one in told["added_tokens"]:
        one["id"] = new[one["id"]]
    if told.get("padding"):
        told["padding"]["pad_id"] = new[told["padding"]["pad_id"]]
    _renumber_template(told.get("post_processor") or {}, new)


def _is_left(pair: tuple[str, str], model: Mapping[str, Any]) -> bool:
    vocabulary: Collection[str] = model["vocab"]
    return all(token in vocabulary for token in (*pair, _merged(pair, model)))


def _renumber_template(processor: dict[str, Any], new: Mapping[int, int]) -> None:
    """Renumber the special tokens that a post-processor adds to a text, in place."""
    for part in processor.get("processors", ()):
        _renumber_template(part, new)
    for end in ("sep", "cls"):
        if end in processor:
            token, old = processor[end]
            processor[end] = [token, new[old]]
    for one in (processor.get("special_tokens") or {}).values():
        one["ids"] = [new[old] for old in one["ids"]]
