r"""Pre-train ``nano``, a small BERT, on Wikipedia text and Python documentation.

    python -m tests.nano.pretrain --wikipedia train.txt.xz --valid valid.txt.xz \
        --minutes 60 --output run

A run that was killed continues from its last checkpoint when the same command is given again. To
end one early, create the file ``run/stop`` or send SIGTERM: the learning rate then falls to zero
within ``--cool-down`` minutes and the weights are saved.
"""

from __future__ import annotations

import argparse
import logging
import math
import signal
import sys
from collections.abc import Sequence

import torch

from tamtctl.data.corpus import load_corpus
from tamtctl.data.text.documents import PYTHON_DOCS
from tamtctl.foundations.errors import TamtctlError, UsageError

from .measure import talk_plainly
from .pretraining import SHORT, Run, keep_freed_memory
from .start import LONGEST_SEQUENCE

log = logging.getLogger("tamtctl.nano")


def parser() -> argparse.ArgumentParser:
    """Return the command's options."""
    built = argparse.ArgumentParser(
        prog="python -m tests.nano.pretrain",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = built.add_argument
    add("--wikipedia", nargs="+", required=True, metavar="FILE", help="text files to train on")
    add("--valid", nargs="+", metavar="FILE", help="held-out text; default: a tenth of the former")
    add("--output", required=True, metavar="FOLDER", help="for checkpoints and, at the end, nano")
    add("--start", metavar="FOLDER", help="continue from these weights instead of from nothing")
    add("--minutes", type=float, default=60.0, help="of training (default: 60)")
    add("--tokens", type=int, help="train on so many tokens, however long it takes")
    add("--cool-down", type=float, default=8.0, help="minutes of decay after a stop (default: 8)")
    add("--peak", type=float, default=2e-3, help="learning rate (default: 2e-3)")
    add("--batch-size", type=int, default=24, help="sequences in a batch (default: 24)")
    add("--length", type=int, default=128, help="tokens in a sequence (default: 128)")
    add("--short-share", type=float, help=f"share of the run on sequences of {SHORT} tokens")
    add("--docs-share", type=float, default=0.15, help="share of documentation (default: 0.15)")
    add("--masked-share", type=float, default=0.25, help="share of targets (default: 0.25)")
    add("--seed", type=int, default=0, help="of initialisation, order and noise")
    add("--threads", type=int, default=torch.get_num_threads(), help="CPU workers")
    add("--log-seconds", type=float, default=20.0, help="between progress lines")
    add("--checkpoint-seconds", type=float, default=60.0, help="between checkpoints")
    add("--evaluation-minutes", type=float, default=5.0, help="between held-out losses")
    return built


def check(options: argparse.Namespace) -> None:
    """Raise UsageError for an option out of range."""
    for name in ("minutes", "tokens", "peak", "batch_size", "threads", "masked_share", "cool_down"):
        value = getattr(options, name)
        if value is not None and not (0 < value < math.inf):
            raise UsageError(f"--{name.replace('_', '-')} must be positive, not {value}")
    for name, most in (("short_share", 1.0), ("docs_share", 1.0), ("masked_share", 0.5)):
        value = getattr(options, name)
        if value is not None and not 0 <= value <= most:
            raise UsageError(f"--{name.replace('_', '-')} must be from 0 to {most:g}, not {value}")
    if not 8 <= options.length <= LONGEST_SEQUENCE:
        raise UsageError(f"--length must be between 8 and {LONGEST_SEQUENCE}, not {options.length}")
    if options.seed < 0:
        raise UsageError(f"--seed must not be negative, not {options.seed}")


def run(options: argparse.Namespace) -> None:
    """Pre-train as the options say."""
    check(options)
    if options.short_share is None:  # the first attention is learned fastest on short sequences
        options.short_share = 0.0 if options.start else 0.7
    keep_freed_memory()
    torch.set_num_threads(1)  # the workers are the parallelism
    training = Run(options)
    signal.signal(signal.SIGTERM, training.stop)
    corpora = {
        "wikipedia": load_corpus(options.wikipedia, training.tokenizer, held_out=options.valid),
        PYTHON_DOCS: load_corpus(PYTHON_DOCS, training.tokenizer),
    }
    for name, corpus in corpora.items():
        if min(len(corpus.train), len(corpus.held_out)) < options.length:
            raise UsageError(f"{name} is too short for --length {options.length}; give more text")
    training.train(corpora)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line: one line and an exit code for what cannot be done."""
    options = parser().parse_args(arguments)
    talk_plainly()
    try:
        run(options)
    except TamtctlError as error:
        parser().exit(error.exit_code, f"error: {error}\n")
    except OSError as error:
        parser().exit(1, f"error: cannot write --output {options.output}: {error}\n")
    except KeyboardInterrupt:
        parser().exit(130, "interrupted; the same command continues from the last checkpoint\n")


if __name__ == "__main__":
    main(sys.argv[1:])
