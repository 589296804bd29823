"""Measure what ``nano`` has learned: its loss on held-out text, with and without word order.

    python -m tests.nano.measure --valid valid.txt.xz

The second number is the loss with the unmasked tokens of each sequence in random order and the
targets in their places: that of a model that only counts words.
"""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812
from transformers import BertForMaskedLM, PreTrainedTokenizerBase
from transformers.utils import logging as transformers_logging

from tamtctl.data.batch import Batch
from tamtctl.data.batches import evaluation_batches
from tamtctl.data.corpus import TokenStream, load_corpus
from tamtctl.data.noise import Noise
from tamtctl.data.sequences import Blocks
from tamtctl.data.text.documents import PYTHON_DOCS
from tamtctl.foundations.errors import TamtctlError, UsageError

from .start import load_bert

log = logging.getLogger("tamtctl.nano")


def target_loss(model: BertForMaskedLM, batch: Batch) -> Tensor:
    """Return the mean cross entropy at the masked positions, a scalar.

    The head is computed at these positions only, since logits for all tokens would be more work.
    """
    states = model.bert(batch.input_ids).last_hidden_state.flatten(0, 1)  # (B * T, H)
    return F.cross_entropy(model.cls(states[batch.masked]), batch.labels)


def talk_plainly() -> None:
    """Log this package's messages to stderr as they are, and only errors of transformers."""
    logging.basicConfig(format="%(message)s", force=True)
    logging.getLogger("tamtctl").setLevel(logging.INFO)
    transformers_logging.disable_progress_bar()
    transformers_logging.set_verbosity_error()


@torch.no_grad()
def held_out_loss(
    model: BertForMaskedLM,
    tokenizer: PreTrainedTokenizerBase,
    stream: TokenStream,
    *,
    length: int = 128,
    limit: int | None = None,
    permuted: bool = False,
) -> float:
    """Return the masked-LM loss in nats per target, always with the same noise.

    Args:
        model: The model, in float32, on any device.
        tokenizer: The model's tokenizer.
        stream: Held-out token ids, shape (tokens,).
        length: Tokens in a sequence, [CLS] and [SEP] included.
        limit: Most sequences to measure, spread evenly over the text; None: all.
        permuted: Whether to shuffle the unmasked tokens of each sequence.
    """
    blocks = Blocks.of(stream, length, tokenizer)
    noise = Noise.of(tokenizer)
    was_training = model.training
    model.eval()
    total, targets = 0.0, 0
    for index, batch in enumerate(evaluation_batches(blocks, 32, noise=noise, limit=limit)):
        asked = permute_context(batch, seed=index) if permuted else batch
        loss = target_loss(model, asked.to(model.device))
        total += loss.item() * len(batch.labels)
        targets += len(batch.labels)
    model.train(was_training)
    return total / targets


def permute_context(batch: Batch, seed: int) -> Batch:
    """Shuffle the tokens of each sequence that are neither targets nor its first or last token."""
    ids = batch.input_ids.clone()  # (B, T)
    rows, length = ids.shape
    random = np.random.default_rng(seed)
    is_target = np.zeros(ids.shape, bool)
    is_target.ravel()[batch.masked.numpy()] = True
    for row in range(rows):
        places = np.flatnonzero(~is_target[row, 1 : length - 1]) + 1
        ids[row, places] = ids[row, random.permutation(places)]
    return Batch(ids, batch.masked, batch.labels)


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the losses of a model folder on held-out Wikipedia text and documentation."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.nano.measure",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--model", default="nano", help="a folder or Hub id (default: nano)")
    parser.add_argument("--valid", nargs="+", required=True, help="held-out text files")
    parser.add_argument("--length", type=int, default=128, help="tokens in a sequence")
    parser.add_argument("--limit", type=int, help="at most so many sequences of each text")
    options = parser.parse_args(arguments)
    talk_plainly()
    try:
        report(options)
    except TamtctlError as error:
        parser.exit(error.exit_code, f"error: {error}\n")


def report(options: argparse.Namespace) -> None:
    """Log the losses, plain and with permuted context, of every text."""
    model, tokenizer = load_bert(options.model)
    if options.length > model.config.max_position_embeddings:
        raise UsageError(
            f"--length must be at most {model.config.max_position_embeddings}, not {options.length}"
        )
    if options.limit is not None and options.limit < 1:
        raise UsageError(f"--limit must be at least 1, not {options.limit}")
    streams = {
        "wikipedia": load_corpus(options.valid, tokenizer, held_out=options.valid).held_out,
        PYTHON_DOCS: load_corpus(PYTHON_DOCS, tokenizer).held_out,
    }
    for name, stream in streams.items():
        plain, permuted = (
            held_out_loss(
                model, tokenizer, stream, length=options.length, limit=options.limit, permuted=flag
            )
            for flag in (False, True)
        )
        log.info(
            f"{name:<12} length {options.length}: loss {plain:.3f}, "
            f"context permuted {permuted:.3f} (+{permuted - plain:.3f})"
        )


if __name__ == "__main__":
    main(sys.argv[1:])
