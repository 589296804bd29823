"""Several processes on one job: the rank of this one, and communication between them.

``torchrun`` starts the processes, the command line joins them (`joined`), and everything else calls
`world()`, which is a world of one process unless it was joined. Training is data parallel: every
process holds the whole model and takes its slice of every batch. Its loss is a sum divided by the
number of targets of the *whole* step, so gradients are summed, not averaged: slices differ in their
numbers of masked tokens. Only the first process writes and prints.
"""

# DDP reads the annotations of its hook, so they must not be strings (no `annotations` import).
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed import (  # type: ignore[attr-defined]  # public, but not to mypy
    GradBucket,
    PrefixStore,
    Store,
    rendezvous,
)
from torch.nn.parallel import DistributedDataParallel

from tamtctl.foundations.errors import TamtctlError, UsageError

# In training, processes wait a step for each other; for a corpus or an evaluation, perhaps hours.
_STEP_TIMEOUT = timedelta(minutes=30)
_WAIT_TIMEOUT = timedelta(days=1)
# How long other processes wait for the first one to report an error.
_SPEAKS_FIRST = timedelta(seconds=5)
_REPORTED = "reported"

T = TypeVar("T")


@dataclass(frozen=True)
class World:
    """The processes of a job, seen from one of them.

    Attributes:
        rank: Rank of this process, from 0.
        size: Number of processes.
        local_rank: Rank of this process on its machine, from 0, which is also the number of its
            GPU.
    """

    rank: int = 0
    size: int = 1
    local_rank: int = 0

    @property
    def is_first(self) -> bool:
        """Whether this is the process that writes and prints."""
        return self.rank == 0

    def check_batch(self, batch_size: int) -> None:
        """Raise UsageError if there are more processes than sequences in a batch."""
        if batch_size < self.size:
            raise UsageError(
                f"a batch of {batch_size} cannot be shared by {self.size} processes; "
                "give a larger --batch-size, or start fewer"
            )

    def on_first(self, work: Callable[[], T]) -> T:
        """Call a function in the first process; all return its value, or raise its error."""
        if self.size == 1:
            return work()
        outcome: list[tuple[Any, Exception | None]] = [(None, None)]
        if self.is_first:
            outcome = [_attempt(work)]
        dist.broadcast_object_list(outcome, src=0, group=_waiting_group)
        value, error = outcome[0]
        if error:
            raise error
        return value  # type: ignore[no-any-return]

    def in_turn(self, work: Callable[[], T]) -> T:
        """Call a function in every process: first in the first, then in the first of each machine.

        The rest comes last, so that files that one process fetches or caches are there for the
        next. An error in one process is raised in all.
        """
        if self.size == 1:
            return work()
        turn = 0 if self.is_first else 1 if self.local_rank == 0 else 2
        outcome: tuple[Any, Exception | None] = (None, None)
        for now in range(3):
            if now == turn:
                outcome = _attempt(work)
            errors: list[Exception | None] = [None] * self.size
            dist.all_gather_object(errors, outcome[1], group=_waiting_group)
            if found := next((error for error in errors if error), None):
                raise found
        return outcome[0]  # type: ignore[no-any-return]

    def any(self, flag: bool) -> bool:
        """Return whether the flag is set in any process."""
        if self.size == 1:
            return flag
        flags = torch.tensor(int(flag))
        dist.all_reduce(flags, group=_waiting_group)
        return bool(flags)

    def totals(self, values: Mapping[str, Tensor | int], device: torch.device) -> dict[str, Any]:
        """Return name → sum over all processes, as tensors on the device.

        Args:
            values: Name → scalar, all of one type, with the same names in every process.
            device: Where the processes compute.
        """
        if self.size == 1:
            return dict(values)
        stacked = torch.stack([torch.as_tensor(value, device=device) for value in values.values()])
        dist.all_reduce(stacked)
        return dict(zip(values, stacked.unbind(), strict=True))

    def gathered(self, rows: Tensor) -> tuple[Tensor, int]:
        """Return the rows of all processes, (n, …), and the index of this process's first row.

        Args:
            rows: The rows of this process, (m, …), without gradient; m may differ between
                processes.
        """
        if self.size == 1:
            return rows, 0
        counts = torch.zeros(self.size, dtype=torch.int64)
        counts[self.rank] = len(rows)
        dist.all_reduce(counts, group=_waiting_group)
        start = int(counts[: self.rank].sum())
        whole = rows.new_zeros((int(counts.sum()), *rows.shape[1:]))
        whole[start : start + len(rows)] = rows
        dist.all_reduce(whole)
        return whole, start

    def parallel(
        self,
        function: Callable[..., T],
        parameters: Sequence[nn.Parameter],
        *,
        some_unused: bool = False,
    ) -> Callable[..., T]:
        """Return the function, wrapped so that backward sums gradients over all processes.

        Communication overlaps with the backward pass. All processes start with the first one's
        parameters.

        Args:
            function: A forward pass; every process must call it, and backward, equally often.
            parameters: The parameters with gradients, on their device.
            some_unused: Whether its result depends on only some of them, always the same ones.
        """
        if self.size == 1:
            return function
        parallel = DistributedDataParallel(
            _Function(function, parameters), gradient_as_bucket_view=True, static_graph=some_unused
        )
        parallel.register_comm_hook(None, _sum_of_gradients)
        return parallel


class _Function(nn.Module):
    """A function as a module for DDP, with only the trained parameters."""

    def __init__(self, function: Callable[..., Any], parameters: Sequence[nn.Parameter]) -> None:
        super().__init__()
        self._function = function
        self._trained = nn.ParameterList(parameters)

    def forward(self, *arguments: Any) -> Any:
        return self._function(*arguments)


_world = World()
_waiting_group: dist.ProcessGroup | None = None  # for messages between CPUs, with a long timeout
_store: Store | None = None


def world() -> World:
    """Return the processes of this job."""
    return _world


@contextmanager
def joined() -> Iterator[World]:
    """Join the processes that ``torchrun`` started together; torch reads its environment variables.

    After an error the connection is left open: another process may be communicating with this one,
    which is about to end anyway.
    """
    global _world, _waiting_group, _store  # as global as the process group itself
    _store, rank, size = next(rendezvous("env://"))
    has_nccl = torch.cuda.is_available() and dist.is_nccl_available()
    dist.init_process_group(
        "cpu:gloo,cuda:nccl" if has_nccl else "gloo",
        store=PrefixStore("groups", _store),
        rank=rank,
        world_size=size,
        timeout=_STEP_TIMEOUT,
    )
    _waiting_group = dist.new_group(backend="gloo", timeout=_WAIT_TIMEOUT)
    _world = World(rank, size, dist.get_node_local_rank())
    yield _world
    dist.destroy_process_group()
    _world, _waiting_group, _store = World(), None, None


def is_joined() -> bool:
    """Whether this process has connected to the others; errors may occur before that."""
    return _store is not None


def may_report() -> bool:
    """Return whether this process is the one that reports why all of them end.

    An error in the request occurs in every process; the first one reports it. An error that occurs
    in one process alone is reported by that one.
    """
    if _store is None:
        return True
    try:
        if not _world.is_first:
            with suppress(dist.DistStoreError):  # the first process reported nothing
                _store.wait([_REPORTED], _SPEAKS_FIRST)
        return bool(_store.add(_REPORTED, 1) == 1)
    except dist.DistError:  # the process that kept the store has ended
        return _world.is_first


def without_sum(function: Callable[..., Any]) -> AbstractContextManager[None]:
    """Return the context for all but the last forward and backward pass of a step.

    Within it, a function of `World.parallel` does not sum gradients over processes.
    """
    if isinstance(function, DistributedDataParallel):
        return function.no_sync()
    return nullcontext()


def _attempt(work: Callable[[], T]) -> tuple[T | None, Exception | None]:
    """Call a function; return its value, or an error that other processes can raise, too."""
    try:
        return work(), None
    except (TamtctlError, OSError) as error:
        return None, error


def _sum_of_gradients(_: None, bucket: GradBucket) -> torch.futures.Future[Tensor]:
    """Sum a bucket of gradients; the hook replaces DDP's average."""
    reduced = dist.all_reduce(bucket.buffer(), async_op=True)
    assert reduced is not None
    future: torch.futures.Future[Tensor] = reduced.get_future().then(lambda sums: sums.value()[0])
    return future
