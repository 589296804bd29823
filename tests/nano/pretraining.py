"""Pre-training nano: samples, a schedule, and a run that can be continued."""

from __future__ import annotations

import argparse
import ctypes
import logging
import pickle
import shutil
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from tamtctl.data.batch import Batch
from tamtctl.data.corpus import Corpus, TokenStream
from tamtctl.foundations.errors import ModelError, UsageError
from tamtctl.foundations.files import replacing_file
from tamtctl.foundations.signals import DeferredSignals
from tamtctl.models.loading import save_model

from .measure import held_out_loss, target_loss
from .start import load_bert, new_model, train_vocabulary

log = logging.getLogger("tamtctl.nano")

CHECKPOINT = "checkpoint.pt"
START = "start"
STOP = "stop"
WEIGHTS = "model.safetensors"

SHORT = 32  # tokens in a sequence of the first, short phase, in which attention is cheap
LONGEST_STEP = 60.0  # most seconds counted for a step: a suspended process keeps its budget


@dataclass(frozen=True)
class Sampler:
    """Draws batches with masked tokens; a batch depends only on its key.

    Attributes:
        wikipedia: Token ids of Wikipedia, shape (tokens,).
        python_docs: Token ids of the documentation, shape (tokens,).
        tokenizer: The tokenizer of both streams.
        docs_share: Share of windows from the documentation.
        masked_share: Share of tokens that are targets.
    """

    wikipedia: TokenStream
    python_docs: TokenStream
    tokenizer: PreTrainedTokenizerBase
    docs_share: float
    masked_share: float

    def batch(self, key: Sequence[int], rows: int, length: int) -> Batch:
        """Return a batch of ``rows`` random windows of ``length`` tokens."""
        random = np.random.default_rng(key)
        ids = np.empty((rows, length), np.int64)  # (B, T)
        is_docs = random.random(rows) < self.docs_share
        for stream, chosen in ((self.python_docs, is_docs), (self.wikipedia, ~is_docs)):
            starts = random.integers(len(stream) - length + 1, size=chosen.sum())
            ids[chosen] = stream[starts[:, None] + np.arange(length)]
        # Half of the windows have [CLS] and [SEP], so that the model learns text with and without.
        framed = random.random(rows) < 0.5
        ids[framed, 0], ids[framed, -1] = self.tokenizer.cls_token_id, self.tokenizer.sep_token_id
        draws = random.random(ids.shape)
        draws[framed, 0] = draws[framed, -1] = 1.0  # never a target
        # Every batch has the same number of targets, so that the mean over batches is that over
        # targets.
        count = max(1, round(self.masked_share * ids.size))
        masked = np.sort(np.argpartition(draws, count, axis=None)[:count])  # (n,)
        labels = ids.ravel()[masked]
        kind = random.random(count)
        random_ids = random.integers(len(self.tokenizer), size=count)
        ids.ravel()[masked] = np.select(
            [kind < 0.8, kind < 0.9], [self.tokenizer.mask_token_id, random_ids], labels
        )
        return Batch(*map(torch.from_numpy, (ids, masked, labels)))


@dataclass
class Schedule:
    """Warm-up, plateau, linear decay over "work": tokens, or seconds if the budget is in time."""

    peak: float
    warm_up: float
    decay_from: float
    end: float

    def learning_rate(self, work: float) -> float:
        """Return the learning rate after some work."""
        rising = min(1.0, (work + 1) / (self.warm_up + 1))
        falling = max(0.0, (self.end - work) / (self.end - self.decay_from))
        return self.peak * min(rising, falling, 1.0)

    def cool_down(self, work: float, more: float) -> None:
        """End after at most ``more`` work, decaying from the present learning rate."""
        if work + more < self.end:
            self.peak, self.warm_up = self.learning_rate(work), 0.0
            self.decay_from, self.end = work, work + more


class Run:
    """A training run: model, optimiser, schedule and progress, kept in its output folder."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        self.output = Path(options.output)
        self.settings = {k: v for k, v in vars(options).items() if k not in COSMETIC}
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.workers = options.threads if self.device.type == "cpu" else 1
        self.step, self.tokens, self.seconds = 0, 0, 0.0
        self.is_stopping = False
        self.budget = options.tokens or options.minutes * 60
        self.schedule = Schedule(options.peak, 0.03 * self.budget, 0.6 * self.budget, self.budget)
        checkpoint = self._read_checkpoint()
        if checkpoint is not None:
            self.model, self.tokenizer = load_bert(str(self.output / START))
        elif options.start:
            self.model, self.tokenizer = load_bert(options.start)
        else:
            torch.manual_seed(options.seed)
            self.tokenizer = train_vocabulary(options.wikipedia)
            self.model = new_model(len(self.tokenizer))
        # At this size plain matrix products are faster than the fused kernel on a CPU.
        self.model.set_attn_implementation("eager" if self.device.type == "cpu" else "sdpa")
        self.model.to(self.device)  # type: ignore[arg-type]  # a decorator hides the signature
        self.parameters = list(self.model.parameters())
        groups: list[dict[str, Any]] = [
            {"params": [p for p in self.parameters if p.ndim > 1]},
            {"params": [p for p in self.parameters if p.ndim < 2], "weight_decay": 0.0},
        ]
        self.optimizer = torch.optim.AdamW(
            groups,
            lr=options.peak, betas=(0.9, 0.98), weight_decay=0.01, fused=True,
        )  # fmt: skip
        if checkpoint is None:
            save_model(self.model, self.tokenizer, self.output / START)
            self._write_checkpoint()
        else:
            self._restore(checkpoint)

    @property
    def work(self) -> float:
        """The work done so far, in the unit of the schedule."""
        return self.tokens if self.options.tokens else self.seconds

    def train(self, corpora: dict[str, Corpus]) -> None:
        """Train to the end of the schedule, then save the weights."""
        options = self.options
        wikipedia, python_docs = (corpus.train for corpus in corpora.values())
        sampler = Sampler(
            wikipedia, python_docs, self.tokenizer, options.docs_share, options.masked_share
        )
        logged = saved = evaluated = time.monotonic()
        losses: list[Tensor] = []
        first = self.tokens
        with ThreadPoolExecutor(self.workers) as pool:
            while self.work < self.schedule.end:
                started = time.monotonic()
                losses.append(self._train_step(sampler, pool))
                now = time.monotonic()
                self.seconds += min(now - started, LONGEST_STEP)
                self._check_stop()
                if now - logged > options.log_seconds:
                    self._log(
                        torch.stack(losses).mean().item(), (self.tokens - first) / (now - logged)
                    )
                    losses, first, logged = [], self.tokens, now
                if now - saved > options.checkpoint_seconds:
                    self._write_checkpoint()
                    saved = now
                if now - evaluated > options.evaluation_minutes * 60:
                    self._evaluate(corpora)
                    evaluated = logged = time.monotonic()
                    losses, first = [], self.tokens
        self._write_checkpoint()
        self._evaluate(corpora)
        self._finish()

    def stop(self, *_: int | FrameType | None) -> None:
        """Request an early end; as a signal handler, it only sets a flag."""
        self.is_stopping = True

    def _train_step(self, sampler: Sampler, pool: ThreadPoolExecutor) -> Tensor:
        """Take one optimiser step; return the loss.

        Each worker has its own sequences and one thread. Workers wait for each other once per step,
        whereas threads inside one worker would wait in every matrix product. On a busy machine this
        is twice as fast.
        """
        options = self.options
        is_short = self.work < options.short_share * self.budget
        length = min(SHORT, options.length) if is_short else options.length
        rows = max(1, options.batch_size * options.length // length // self.workers)

        def gradients(worker: int) -> tuple[Tensor, tuple[Tensor, ...]]:
            key = (options.seed, self.step, worker)
            batch = sampler.batch(key, rows, length).to(self.device)
            with torch.autocast(self.device.type, torch.bfloat16, self.device.type == "cuda"):
                loss = target_loss(self.model, batch)
            return loss.detach(), torch.autograd.grad(loss, self.parameters)

        losses, shards = zip(*pool.map(gradients, range(self.workers)), strict=True)
        for parameter, *parts in zip(self.parameters, *shards, strict=True):
            parameter.grad = torch.stack(parts).mean(0) if len(parts) > 1 else parts[0]
        torch.nn.utils.clip_grad_norm_(self.parameters, 1.0)
        for group in self.optimizer.param_groups:
            group["lr"] = self.schedule.learning_rate(self.work)
        self.optimizer.step()
        self.step += 1
        self.tokens += rows * length * self.workers
        return torch.stack(losses).mean()

    def _check_stop(self) -> None:
        """Begin the decay phase if a signal or the file ``stop`` requests it."""
        if not self.is_stopping and not (self.output / STOP).exists():
            return
        (self.output / STOP).unlink(missing_ok=True)
        self.is_stopping = False
        speed = self.work / max(self.seconds, 1.0)  # work per second
        self.schedule.cool_down(self.work, self.options.cool_down * 60 * speed)
        self._write_checkpoint()
        log.info(f"stopping early: the rest is {self.schedule.end - self.work:,.0f} of work")

    def _log(self, loss: float, speed: float) -> None:
        log.info(
            f"{time.strftime('%H:%M:%S')} step {self.step} tokens {self.tokens / 1e6:.2f}M "
            f"({self.work / self.schedule.end:.1%}) "
            f"lr {self.schedule.learning_rate(self.work):.2e} loss {loss:.3f} {speed:,.0f} tokens/s"
        )

    def _evaluate(self, corpora: dict[str, Corpus]) -> None:
        losses = {
            name: held_out_loss(self.model, self.tokenizer, corpus.held_out, limit=200)
            for name, corpus in corpora.items()
        }
        log.info("held out: " + ", ".join(f"{k} {v:.3f}" for k, v in losses.items()))

    def _read_checkpoint(self) -> dict[str, Any] | None:
        """Return the state of the unfinished run in the output folder, if it is this run."""
        self.output.mkdir(parents=True, exist_ok=True)
        path = self.output / CHECKPOINT
        if not path.exists():
            names = {file.name for file in self.output.iterdir()}
            if any(n != START and not n.startswith(f".{CHECKPOINT}-") for n in names):
                raise UsageError(f"--output {self.output} is not empty; name a new folder")
            return None
        try:
            state: dict[str, Any] = torch.load(path, map_location=self.device, weights_only=True)
        except (EOFError, RuntimeError, pickle.UnpicklingError) as error:
            raise ModelError(f"{path} is damaged; delete {self.output} and start again") from error
        if state["settings"] != self.settings:
            raise UsageError(f"--output {self.output} holds a run with other options; name another")
        return state

    def _restore(self, state: dict[str, Any]) -> None:
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.schedule = Schedule(**state["schedule"])
        self.step, self.tokens, self.seconds = state["step"], state["tokens"], state["seconds"]
        log.info(f"resuming at step {self.step}, {self.tokens:,} tokens")

    def _write_checkpoint(self) -> None:
        state = {
            "settings": self.settings,
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "schedule": asdict(self.schedule),
            "step": self.step,
            "tokens": self.tokens,
            "seconds": self.seconds,
        }
        # A signal inside torch.save would surface as a RuntimeError about an unfinished archive.
        with DeferredSignals(), replacing_file(self.output / CHECKPOINT) as file:
            torch.save(state, file)

    def _finish(self) -> None:
        """Save the weights in float16; the output folder then holds them and nothing else."""
        final = self.output / "final"
        self.model.half()
        save_model(self.model, self.tokenizer, final)
        # The weights are moved last, so that a folder with weights is complete.
        for file in sorted(final.iterdir(), key=lambda file: file.name == WEIGHTS):
            file.replace(self.output / file.name)
        final.rmdir()
        (self.output / CHECKPOINT).unlink()
        shutil.rmtree(self.output / START)
        log.info(f"{self.tokens:,} tokens in {self.seconds / 60:.1f} minutes: {self.output}")


# Options that may differ when a run continues.
COSMETIC = {
    "output", "threads", "cool_down", "log_seconds", "checkpoint_seconds", "evaluation_minutes",
}  # fmt: skip


def keep_freed_memory() -> None:
    """Make glibc reuse freed memory; asking the kernel anew costs a third of every step's time."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is not None:
        m_trim_threshold, m_mmap_max, m_arena_max = -1, -4, -8
        mallopt(m_mmap_max, 0)
        mallopt(m_trim_threshold, 2**31 - 1)
        mallopt(m_arena_max, 1)
