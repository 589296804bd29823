"""Several processes on one job: which one this is, and what they tell each other.

``torchrun`` starts the processes, the command line joins them (`joined`), and everything else asks
`world()`, which is a world of one where nobody joined. Training is data parallel: every process
holds the whole model and takes its slice of every batch. Its loss is a sum divided by the number of
targets of the *whole* step, so gradients are summed, not averaged: slices differ in their numbers
of masked tokens. The first process alone writes and is heard.
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

# In training the others are a step away; a corpus may be read, or a model evaluated, for hours.
_STEP_TIMEOUT = timedelta(minutes=30)
_WAIT_TIMEOUT = timedelta(days=1)
# So long another process leaves it to the first one to say what went wrong.
_SPEAKS_FIRST = timedelta(seconds=5)
_REPORTED = "reported"

T = TypeVar("T")


@dataclass(frozen=True)
class World:
    """The processes of a job, seen from one of them.

    Attributes:
        rank: Which one this is, from 0.
        size: How many there are.
        local_rank: Which one on its machine, from 0: it computes on the GPU of this number.
    """

    rank: int = 0
    size: int = 1
    local_rank: int = 0

    @property
    def is_first(self) -> bool:
        """Whether this is the process that writes and is heard."""
        return self.rank == 0

    def check_batch(self, batch_size: int) -> None:
        """Raise UsageError unless every process gets a part of a batch."""
        if batch_size < self.size:
            raise UsageError(
                f"a batch of {batch_size} cannot be shared by {self.size} processes; "
                "give a larger --batch-size, or start fewer"
            )

    def on_first(self, work: Callable[[], T]) -> T:
        """Do something in the first process; all get its value, or raise its error."""
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
        """Do something in every process: in the first, in the first of each machine, in the rest.

        What one of them fetches or writes to a cache is there for those that come after. An error
        in one of them is raised in all.
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
        """Tell whether the flag is set in any process."""
        if self.size == 1:
            return flag
        flags = torch.tensor(int(flag))
        dist.all_reduce(flags, group=_waiting_group)
        return bool(flags)

    def totals(self, values: Mapping[str, Tensor | int], device: torch.device) -> dict[str, Any]:
        """Return the sums of every process's values, on the device: nothing waits for them there.

        Args:
            values: Name → scalar, all of one type; the same names in every process.
            device: Where the processes compute.
        """
        if self.size == 1:
            return dict(values)
        stacked = torch.stack([torch.as_tensor(value, device=device) for value in values.values()])
        dist.all_reduce(stacked)
        return dict(zip(values, stacked.unbind(), strict=True))

    def gathered(self, rows: Tensor) -> tuple[Tensor, int]:
        """Return the rows of all processes, (n, …), and where those of this one start.

        Args:
            rows: Those of this process, (m, …), without gradient; m may differ from the others'.
        """
        if self.size == 1:
            return rows, 0
        sizes = torch.zeros(self.size, dtype=torch.int64, device=rows.device)
        sizes[self.rank] = len(rows)
        dist.all_reduce(sizes)
        start = int(sizes[: self.rank].sum())
        whole = rows.new_zeros((int(sizes.sum()), *rows.shape[1:]))
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
        """Return the function, made such that backward leaves the sum of all processes' gradients.

        Communication overlaps with the backward pass. All processes start with the first one's
        parameters.

        Args:
            function: A forward pass; every process must call it, and backward, equally often.
            parameters: What it is differentiated by, on their device.
            some_unused: Its result does not depend on all of them, but always on the same ones.
        """
        if self.size == 1:
            return function
        parallel = DistributedDataParallel(
            _Function(function, parameters), gradient_as_bucket_view=True, static_graph=some_unused
        )
        parallel.register_comm_hook(None, _sum_of_gradients)
        return parallel


class _Function(nn.Module):
    """A function as the module that DDP wants: with the trained parameters, and nothing else."""

    def __init__(self, function: Callable[..., Any], parameters: Sequence[nn.Parameter]) -> None:
        super().__init__()
        self._function = function
        self._trained = nn.ParameterList(parameters)

    def forward(self, *arguments: Any) -> Any:
        return self._function(*arguments)


_world = World()
_waiting_group: dist.ProcessGroup | None = None  # for words between CPUs, at any pace
_store: Store | None = None


def world() -> World:
    """Return the processes of this job."""
    return _world


@contextmanager
def joined() -> Iterator[World]:
    """Join the processes that ``torchrun`` started with this one; torch reads its environment.

    After an error nothing is taken down: another process may be in the middle of a word with this
    one, and this one is about to end.
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
    """Whether this process has met the others; what is wrong may be seen before."""
    return _store is not None


def may_report() -> bool:
    """Tell whether this process is the one that says why all of them end.

    An error in the request occurs in every process; the first one reports it. An error that occurs
    in one process alone is reported by that one.
    """
    if _store is None:
        return True
    try:
        if not _world.is_first:
            with suppress(dist.DistStoreError):  # the first one has nothing to say
                _store.wait([_REPORTED], _SPEAKS_FIRST)
        return bool(_store.add(_REPORTED, 1) == 1)
    except dist.DistError:  # whoever kept the store has ended
        return _world.is_first


def without_sum(function: Callable[..., Any]) -> AbstractContextManager[None]:
    """Return the context of all forward and backward passes of a step but its last one.

    In it, what `World.parallel` made keeps the gradients to itself.
    """
    if isinstance(function, DistributedDataParallel):
        return function.no_sync()
    return nullcontext()


def _attempt(work: Callable[[], T]) -> tuple[T | None, Exception | None]:
    """Return a value or an error that another process can raise, too."""
    try:
        return work(), None
    except (TamtctlError, OSError) as error:
        return None, error


def _sum_of_gradients(_: None, bucket: GradBucket) -> torch.futures.Future[Tensor]:
    """What DDP does with a bucket of gradients; by itself it would average them."""
    reduced = dist.all_reduce(bucket.buffer(), async_op=True)
    assert reduced is not None
    future: torch.futures.Future[Tensor] = reduced.get_future().then(lambda sums: sums.value()[0])
    return future
