"""The device and precision of a computation."""

from __future__ import annotations

import gc
import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any, Self, cast

import torch
import torch.nn.functional as F  # noqa: N812, the field's own name for it
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from tamtctl.foundations.distributed import world
from tamtctl.foundations.errors import UsageError
from tamtctl.foundations.untrusted import reason

_MOST_THREADS = 16  # for each processor; thousands of idle threads would crash the process
_AS_COMPUTED = ", attention in fp32"

Autocast = Callable[[], AbstractContextManager[object]]  # returns the context for a forward pass


def check_threads(option: str, threads: int) -> None:
    """Raise UsageError if this is far more threads than the machine has processors."""
    if threads > (most := _MOST_THREADS * (os.cpu_count() or 1)):
        raise UsageError(
            f"--{option} {threads} is more than this machine can do with; give at most {most}, or "
            "better one for each processor"
        )


@dataclass(frozen=True)
class Compute:
    """A device and a precision.

    Attributes:
        device: ``cpu``, ``cuda`` or ``mps``.
        precision: ``fp32``, or ``bf16`` for autocast.
    """

    device: torch.device
    precision: str

    @classmethod
    def choose(cls, device: str, precision: str, threads: int | None = None) -> Self:
        """Resolve ``auto``: cuda, else cpu; bf16 on GPUs that support it.

        Apple's mps is taken only if it is asked for: it has no float64, and no test has run on it.

        On a CPU ``auto`` is always fp32, so that a command gives the same result on every CPU,
        except for rounding.

        Args:
            device: A name in `tamtctl.foundations.shared_settings.DEVICES`.
            precision: A name in `tamtctl.foundations.shared_settings.PRECISIONS`.
            threads: CPU threads for the whole process; None leaves torch's choice.

        Raises:
            UsageError: The machine has no such device, or far fewer processors than threads.
        """
        if threads:
            check_threads("threads", threads)
            torch.set_num_threads(threads)
        chosen = _choose_device(device)
        if precision == "auto":
            is_fast = chosen.type == "cuda" and torch.cuda.is_bf16_supported(
                including_emulation=False
            )
            precision = "bf16" if is_fast else "fp32"
        return cls(chosen, precision)

    def place(self, model: object) -> None:
        """Move a model, whose signature transformers hides, to the device.

        What holds an earlier model in a cycle is freed first: Python's collector does not see that
        a GPU is full.
        """
        if self.device.type != "cpu":
            gc.collect()
        cast(nn.Module, model).to(self.device)

    @contextmanager
    def autocast(self) -> Iterator[None]:
        """Run a forward pass in this precision."""
        if self.precision == "fp32":
            yield
            return
        attention = _AttentionInFloat32() if self._is_bf16_on_cpu else nullcontext()
        try:
            with torch.autocast(self.device.type, torch.bfloat16), attention:
                yield
        finally:  # torch does so itself, but not within a caller's autocast
            torch.clear_autocast_cache()

    @property
    def _is_bf16_on_cpu(self) -> bool:
        return self.precision == "bf16" and self.device.type == "cpu"

    @property
    def circumstances(self) -> dict[str, str | int]:
        """What the last bits of a training's result depend on."""
        return {
            "device": self.device.type,
            "precision": self.precision + (_AS_COMPUTED if self._is_bf16_on_cpu else ""),
            "threads": torch.get_num_threads(),
            "processes": world().size,
        }

    def random_state(self) -> dict[str, torch.Tensor]:
        """Return the states of torch's random numbers: device type → bytes."""
        states = {"cpu": torch.get_rng_state()}
        if self.device.type != "cpu":
            states[self.device.type] = torch.get_device_module(self.device).get_rng_state()
        return states

    def set_random_state(self, states: Mapping[str, torch.Tensor]) -> None:
        """Restore the states that `random_state` returned."""
        torch.set_rng_state(states["cpu"])
        if self.device.type in states and self.device.type != "cpu":
            torch.get_device_module(self.device).set_rng_state(states[self.device.type])

    def check_compiler(self) -> None:
        """Test the compiler on a function of one line.

        Raises:
            UsageError: ``torch.compile`` does not work here.
        """
        try:
            torch.compile(_one_more)(torch.zeros(1, device=self.device))
        except Exception as error:  # the errors depend on the installed compilers
            raise UsageError(f"--compile does not work here: {reason(error)}") from error

    def synchronize(self) -> None:
        """Wait until the device has finished, so that its work can be timed."""
        if self.device.type != "cpu":
            torch.accelerator.synchronize(self.device)

    def seconds_of(self, work: Callable[[], object]) -> float:
        """Return how many seconds some work takes until the device has done it."""
        started = time.perf_counter()
        work()
        self.synchronize()
        return time.perf_counter() - started


class _AttentionInFloat32(TorchFunctionMode):
    """Computes torch's own attention in float32 under a CPU's autocast to bf16.

    In bf16 its backward pass takes three times as long on rows of 30 tokens, and as long on 512.
    """

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: object,
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        if func is not F.scaled_dot_product_attention:
            return func(*args, **kwargs)
        named = {name: _in_float32(value) for name, value in kwargs.items()}
        with torch.autocast("cpu", enabled=False):
            found: Tensor = func(*map(_in_float32, args), **named)
        return found.bfloat16()


def _in_float32(value: Any) -> Any:
    """Return a tensor of numbers in float32; anything else, such as a boolean mask, as it is."""
    is_number = isinstance(value, Tensor) and value.is_floating_point()
    return value.float() if is_number else value


def _choose_device(name: str) -> torch.device:
    available = {
        "cuda": torch.cuda.is_available(),
        "cpu": True,
        "mps": torch.backends.mps.is_available(),
    }
    if name == "auto":
        name = next(device for device, is_there in available.items() if is_there)
    if not available[name]:
        raise UsageError(f"--device {name} is not available here; use --device cpu")
    return _own_gpu() if name == "cuda" and world().size > 1 else torch.device(name)


def precision_hint(device: str, precision: str) -> str:
    """Return a hint at the precision that is faster on this CPU; empty if it was chosen.

    A CPU computes bf16 fast only in units of its own. Without them, one with AVX2 took 8 to 10
    times as long for a matrix product of an encoder in bf16 as in fp32.
    """
    if device != "cpu":
        return ""
    has_units = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    if precision == "fp32":
        return " (--precision bf16 is faster here)" if has_units else ""
    return "" if has_units else " (this CPU has no units for bf16: --precision fp32 is far faster)"


def _own_gpu() -> torch.device:
    """Make the GPU of this process its default one, and return it."""
    number, count = world().local_rank, torch.cuda.device_count()
    if number >= count:
        raise UsageError(
            f"this process is number {number} of its machine, and sees {count} GPUs; start as many "
            "as there are (--nproc-per-node), and let each see all of them"
        )
    torch.cuda.set_device(number)
    return torch.device("cuda", number)


def _one_more(values: torch.Tensor) -> torch.Tensor:
    return values + 1
