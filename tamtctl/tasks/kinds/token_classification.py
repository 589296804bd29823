"""Token classification: a tag for every word of a sentence, such as names of people and places.

Tags may be BIO (either kind), BIOES, BILOU or BMES, of several types of spans (``B-PER``) or of one
without a name (``B``), or have no prefix (IO). Only the first token of
a word carries its tag (Devlin et al. 2019, §5.3). Metrics count whole spans, by `seqeval`: a span
is right if its type and both of its ends are.
"""

from __future__ import annotations

import itertools
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch.nn.functional as F  # noqa: N812, the field's own name for it
from numpy.typing import NDArray
from torch import Tensor
from transformers import PreTrainedModel

from tamtctl.data.padded_batches import Features, TaskBatch
from tamtctl.foundations.errors import TaskError
from tamtctl.models.text_inputs import TextInputs
from tamtctl.tasks.examples import Examples
from tamtctl.tasks.kinds.base import ModelOutputs, Predictions, Record, TaskKind
from tamtctl.tasks.kinds.class_notes import listed, times
from tamtctl.tasks.kinds.conll import ends_in_tags, read_columns
from tamtctl.tasks.kinds.metrics import label_entropy
from tamtctl.tasks.kinds.tagged_words import IGNORED, TaggedWords, WordFeatures, tagged_words
from tamtctl.tasks.task import Task

OUTSIDE = "O"  # the tag of a word that is in no span

_MOST_TAGS = 1000
_PREFIXED = re.compile(r"([BIESLUM])-(.+)", re.DOTALL)
_PREFIXES = frozenset("BIESLUM")
_SAME_PREFIX = {"L": "E", "U": "S", "M": "I"}  # BILOU, BMES → BIOES, which seqeval knows

Tags = tuple[str, ...]


class Code(TaskKind):
    """A tag for every word, from a softmax over the outputs at its first token."""

    @property
    def no_label(self) -> Tags:
        """No tags."""
        return ()

    def text(self, place: str, value: Any) -> Tags:
        """Return the words of a list, or of a string split at white space."""
        if isinstance(value, str):
            return tuple(value.split())
        if isinstance(value, list | tuple) and all(isinstance(word, str) for word in value):
            return tuple(value)
        raise TaskError(f"{place} is neither a string nor a list of words but {value!r}")

    def label(self, place: str, value: Any, texts: tuple[Any, ...]) -> Tags:
        """Return a tag for each word; tags that are not in the training set are accepted, too."""
        tags, (words,) = self.own_value(place, value), texts
        if len(tags) != len(words):
            raise TaskError(
                f"{place} has {len(tags)} tags and {len(words)} words; give each word its tag"
            )
        if not tags:
            raise TaskError(f"{place} has no words; fill it in, or leave the example out")
        return tags

    def own_value(self, place: str, value: Any) -> Tags:
        """Return a list of names as tags."""
        if isinstance(value, list | tuple):
            wrong = next(
                (tag for tag in value if not isinstance(tag, str) or not tag.strip()), None
            )
            if wrong is None and None not in value:
                return tuple(value)
            advice = self.advice("tags are names, such as B-PER and O, and not their numbers")
            raise TaskError(f"{place}: {wrong!r} among the tags is no name; {advice}")
        raise TaskError(f"{place}: the tags {value!r} are no list with a tag for each word")

    @classmethod
    def looks_like(cls, values: Sequence[Any]) -> bool:
        """Return whether labels are lists in which O, prefixes or numbers of tags occur."""
        if not all(isinstance(tags, list) for tags in values):
            return False
        tags = list(itertools.chain.from_iterable(values))
        found = set(map(str, tags))
        are_numbers = bool(tags) and all(isinstance(tag, int) for tag in tags)
        is_of_tags = OUTSIDE in found or any(map(_PREFIXED.fullmatch, found)) or _are_bare(found)
        return are_numbers or is_of_tags  # numbers are refused, by words that fit

    def with_labels_of(self, file: Path, values: Sequence[Any]) -> Task:
        """Return the task with the distinct tags as its classes: O first, the others sorted."""
        found = set(itertools.chain.from_iterable(values))
        if len(found) < 2:
            raise TaskError(f"{file} has but the tag {min(found, default='')!r}; two are needed")
        if len(found) > _MOST_TAGS:
            raise TaskError(
                f"{file} has {len(found)} distinct tags, such as {listed(sorted(found)[:3])}, too "
                "many to tell apart; check that its last column, or --label-column, has the tags"
            )
        return replace(
            self.task, labels=tuple(sorted(found, key=lambda tag: (tag != OUTSIDE, tag)))
        )

    def own_records(self, file: Path) -> Iterator[Record]:
        """Yield the sentences of a file in CoNLL's columns."""
        (column,), label = self.task.columns, self.task.label_column
        for sentence in read_columns(file, with_tags=bool(label)):
            yield f"{file}:{sentence.line}", {column: sentence.words, label: sentence.tags}

    def is_own_format(self, file: Path, suffix: str) -> bool:
        """Return whether a file has CoNLL's columns; for .txt, if all lines end in known tags."""
        is_own = super().is_own_format(file, suffix)
        if suffix != ".txt":
            return is_own
        return file.is_file() and ends_in_tags(file, frozenset({OUTSIDE, *self.task.labels}))

    def own_label_notes(self, values: Sequence[Any], *, is_guessed: bool) -> list[str]:
        """Return notes on tags that may merge several spans into one."""
        found = set(itertools.chain.from_iterable(values))
        plain = sorted(tag for tag in found if tag != OUTSIDE and not _PREFIXED.fullmatch(tag))
        notes = []
        if plain and not _are_bare(found):
            have = "has" if len(plain) == 1 else "have"
            notes.append(
                f"{listed(plain)} {have} no prefix such as B- or I-: neighbouring words of one "
                "such tag are taken for one span"
            )
        if OUTSIDE not in found:
            notes.append(f"no word has the tag {OUTSIDE}: all words are taken for parts of spans")
        return notes

    def label_notes(self, examples: Examples, where: str) -> list[str]:
        """Return notes on a split without spans, and on tags that cannot be predicted."""
        counts: Counter[str] = Counter(itertools.chain.from_iterable(examples.labels))
        if set(counts) == {OUTSIDE}:
            return [f"every {where} tag is {OUTSIDE}: with no span to find, f1 is 0"]
        unknown = sorted(set(counts) - set(self.task.labels))
        if not unknown:
            return []
        total = sum(counts[tag] for tag in unknown)
        return [
            f"no example to train on has the tag {listed(unknown)}, which is among the {where} "
            f"ones {times(total)}: it is never predicted"
        ]

    def label_summary(self, examples: Examples) -> str:
        """Return the types of spans."""
        labels = self.task.labels
        if _are_bare(labels):
            return f"{len(labels)} tags of spans without a type"
        types = {_parts(tag, is_bare=False)[1] for tag in labels if tag != OUTSIDE}
        return f"{len(labels)} tags of {listed(sorted(types))}"

    def kept_together(self, texts: Sequence[list[Any]]) -> Sequence[list[str]]:
        """Return the sentences as strings: a split keeps equal ones together."""
        return [[" ".join(words) for words in column] for column in texts]

    def head(self) -> dict[str, Any]:
        """Return the names of the tags."""
        return {
            "id2label": dict(enumerate(self.task.labels)),
            "label2id": {tag: i for i, tag in enumerate(self.task.labels)},
            "problem_type": None,
        }

    def encode(self, inputs: TextInputs, examples: Examples) -> TaggedWords:
        """Return sentences as inputs, with the ids of tags at the first token of each word."""
        (sentences,) = examples.texts
        ids = {tag: i for i, tag in enumerate(self.task.labels)}
        tags = [[ids.get(tag, IGNORED) for tag in own] for own in examples.labels]
        return tagged_words(sentences, tags, inputs)

    def loss(self, model: PreTrainedModel, batch: TaskBatch) -> Tensor:
        """Return the mean cross entropy of the words of a batch, in nats."""
        logits = model(**batch.inputs, return_dict=True).logits.float()  # (B, T, C)
        labels = batch.labels[:, : logits.shape[1]].long()  # (B, T)
        total = F.cross_entropy(
            logits.flatten(0, 1), labels.flatten(), ignore_index=IGNORED, reduction="sum"
        )
        return total / (labels != IGNORED).sum().clamp(min=1)

    def predictions(self, examples: Examples, outputs: ModelOutputs) -> Predictions:
        """Return the most probable tag of each word, and its probability.

        A word that is cut off has the tag O, and no probability.
        """
        encoded = outputs.encoded
        assert isinstance(encoded, TaggedWords)
        found: list[Tags] = [()] * len(examples)
        sure: list[list[float | None]] = [[]] * len(examples)
        for batch, output in outputs.batches:
            best = output.logits.float().softmax(-1).cpu().max(-1)  # (B, T)
            for row, shares, tags in zip(batch.rows.tolist(), *best, strict=True):
                firsts = encoded.firsts[row].tolist()
                found[row] = tuple(
                    self.task.labels[int(tags[at])] if at >= 0 else OUTSIDE for at in firsts
                )
                sure[row] = [float(shares[at]) if at >= 0 else None for at in firsts]
        return Predictions(found, sure)

    def cut_note(self, parts: Sequence[Features], more: str) -> str:
        """Return a note on how many words are cut off, and how they are scored."""
        words = sum(part.cut_words for part in parts if isinstance(part, WordFeatures))
        cut = sum(part.cut for part in parts)
        sentences = "sentence is" if cut == 1 else "sentences are"
        are = "word of theirs is" if words == 1 else "words of theirs are"
        return (
            f"{cut:,} {sentences} too long and cut: {words:,} {are} not read, and count as "
            f"{OUTSIDE}; {more}"
        )

    def metrics(self, predictions: Sequence[Any], examples: Examples) -> dict[str, float]:
        """Return the metrics over all spans together, and the share of words with the right tag."""
        from seqeval import metrics as seqeval

        spans = {
            "f1": seqeval.f1_score,
            "precision": seqeval.precision_score,
            "recall": seqeval.recall_score,
        }
        wanted, said = map(self._known, (examples.labels, predictions))
        found = {name: spans[name](wanted, said, zero_division=0) for name in spans}
        accuracy = seqeval.accuracy_score(
            list(map(list, examples.labels)), list(map(list, predictions))
        )
        return {name: float(value) for name, value in (found | {"accuracy": accuracy}).items()}

    def resampled_metrics(
        self, predictions: Sequence[Any], examples: Examples, draws: Sequence[NDArray[np.int64]]
    ) -> dict[str, NDArray[np.float64]]:
        """Return the metrics of each resample from counts, as seqeval would take minutes."""
        sides = examples.labels, predictions
        rows = zip(*map(self._known, sides), *sides, strict=True)
        counts = np.array([_counts(*row) for row in rows])  # (n, 5)
        sums = np.array([counts[drawn].sum(0) for drawn in draws], float)  # (resamples, 5)
        wanted, said, both, words, same = sums.T
        return {
            "f1": 2 * both / np.maximum(wanted + said, 1),
            "precision": both / np.maximum(said, 1),
            "recall": both / np.maximum(wanted, 1),
            "accuracy": same / words,
        }

    def _known(self, sentences: Sequence[Tags]) -> list[list[str]]:
        """Return tags in BIOES form; seqeval takes the first letter of any other for a prefix."""
        is_bare = _are_bare(self.task.labels)
        return [
            [t if t == OUTSIDE else "-".join(_parts(t, is_bare=is_bare)) for t in tags]
            for tags in sentences
        ]

    def constant(self, examples: Examples) -> str:
        """Return the most frequent tag; of equally frequent ones, the first."""
        counts: Counter[str] = Counter(itertools.chain.from_iterable(examples.labels))
        return min(counts, key=lambda tag: (-counts[tag], tag))

    def constant_predictions(self, value: str | float, examples: Examples) -> list[Tags]:
        """Return the constant tag for each word."""
        return [(str(value),) * len(tags) for tags in examples.labels]

    def known_constant(self, value: Any) -> str | None:
        """Return the value if it is a tag of the task, else None."""
        return value if isinstance(value, str) and value in self.task.labels else None

    def constant_loss(self, features: Features) -> float:
        """Return the entropy of the tags, in nats."""
        return label_entropy(features.labels[features.labels != IGNORED])

    def are_alike(self, predictions: Sequence[Any], examples: Examples) -> bool:
        """Return whether all words of all sentences have the same tag."""
        return len(set(itertools.chain.from_iterable(predictions))) == 1

    def shared_answer(self, predictions: Sequence[Any]) -> str:
        """Return the tag that all words have."""
        return str(next(itertools.chain.from_iterable(predictions)))

    def prediction_to_json(self, value: Tags) -> list[str]:
        """Return the tags as a list."""
        return list(value)

    def prediction_from_json(self, value: Any) -> Tags:
        """Return the tags of a list."""
        return tuple(map(str, value))


def _are_bare(tags: Iterable[str]) -> bool:
    """Return whether tags are prefixes alone, of spans without a type, such as B, I and O."""
    spans = {*tags} - {OUTSIDE}
    return "B" in spans and spans <= _PREFIXES


def _parts(tag: str, *, is_bare: bool) -> tuple[str, str]:
    """Return the prefix of a tag in BIOES, and its type of span, for which seqeval's ``_`` stands.

    Args:
        tag: A tag that is not O.
        is_bare: Whether `_are_bare` holds for the tags of the task.
    """
    if is_bare and tag in _PREFIXES:
        return _SAME_PREFIX.get(tag, tag), "_"
    match = _PREFIXED.fullmatch(tag)
    return (_SAME_PREFIX.get(match[1], match[1]), match[2]) if match else ("I", tag)


def _counts(
    wanted: list[str], said: list[str], wanted_tags: Tags, said_tags: Tags
) -> tuple[int, int, int, int, int]:
    """Return five counts: spans, predicted spans, right spans, words, and rightly tagged words.

    Args:
        wanted: The right tags in BIOES form.
        said: The predicted ones in BIOES form.
        wanted_tags: The right tags as they are.
        said_tags: The predicted ones as they are.
    """
    from seqeval.metrics.sequence_labeling import get_entities

    there, found = set(get_entities(wanted)), set(get_entities(said))
    same = sum(a == b for a, b in zip(wanted_tags, said_tags, strict=True))
    return len(there), len(found), len(there & found), len(wanted_tags), same
