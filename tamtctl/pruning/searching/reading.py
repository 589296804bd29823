"""The texts of a search: for training, and for measuring losses."""

from __future__ import annotations

from functools import partial
from typing import Never

from tamtctl.data.corpus import Corpus, load_corpus
from tamtctl.data.noise import Noise
from tamtctl.data.sequences import Blocks, Rows
from tamtctl.data.streaming import StreamedText
from tamtctl.foundations.watching import Watcher
from tamtctl.models.encoder import Encoder
from tamtctl.pruning.config import SearchConfig
from tamtctl.pruning.objectives.held_out_loss import check_compared
from tamtctl.pruning.searching.mask_probe import ProbeText


def read_text(
    config: SearchConfig, encoder: Encoder, watcher: Watcher[Never]
) -> tuple[Corpus, Blocks | Rows | StreamedText, dict[str, ProbeText]]:
    """Return the corpus, the training text, and field of `SearchResult` → held-out text.

    Raises:
        CorpusError: A text cannot be read, or is too short.
    """
    assert config.rows is not None  # filled in before
    load = partial(
        load_corpus,
        tokenizer=encoder.tokenizer,
        text_column=config.text_column,
        rows=config.rows,
    )
    watcher.status(f"reading corpus {' '.join(config.corpus)}")
    streamed = None
    if config.stream:
        streamed = StreamedText.open(
            config.corpus[0],
            encoder.tokenizer,
            config.sequence_length,
            text_column=config.text_column,
            has_held_out=bool(config.held_out),
            rows=config.rows,
        )
    # Of a stream, only so much is kept that a tenth of it is enough to evaluate on.
    enough = 10 * config.evaluation_blocks * config.sequence_length
    corpus = load(
        config.corpus,
        held_out=config.held_out or None,
        max_tokens=enough if streamed else None,
    )
    texts = {"losses": corpus}
    if config.check_corpus:
        watcher.status(f"reading check corpus {' '.join(config.check_corpus)}")
        texts["check_losses"] = check = load(config.check_corpus)
    noise = Noise.of(encoder.tokenizer) if config.terms.need_noise else None
    held_out = {
        name: ProbeText.cut(
            text,
            encoder,
            sequence_length=config.sequence_length,
            noise=noise,
            limit=config.evaluation_blocks,
        )
        for name, text in texts.items()
    }
    for name, text in texts.items():
        check_compared(held_out[name].scored(text.held_out_name), config.terms)
    for line in dict.fromkeys(note for text in texts.values() for note in text.notes):
        watcher.note(line)
    if config.check_corpus and set(check.digests) & set(corpus.digests):
        seen = ", and all of it is trained on" if config.held_out else ""
        watcher.note(
            f"the check corpus {check.name} is text of the corpus itself{seen}: its losses tell of "
            "no second domain"
        )
    train = streamed or corpus.training_text(
        config.sequence_length, encoder.tokenizer, name=f"the text of {corpus.name}"
    )
    return corpus, train, held_out
