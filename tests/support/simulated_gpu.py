"""A GPU that is simulated on the CPU: ``python -m simulated_gpu search … --device cuda``.

Code that is right on a CPU may crash on a GPU for one reason above all: a tensor was left on the
other device. Here tensors "on the GPU" are wrappers around tensors on the CPU, which say that they
are on ``cuda:0`` and refuse what a GPU's would: operations with tensors on the CPU, NumPy, and the
CPU's random generators. The numbers are the CPU's, and so is the random state behind dropout.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

dispatch, pytree = torch.utils._python_dispatch, torch.utils._pytree
GPU, CPU = torch.device("cuda", 0), torch.device("cpu")
_MOVES = {"aten::_to_copy", "aten::copy_"}
_INDEXING = {"aten::index", "aten::index_put", "aten::index_put_", "aten::_index_put_impl_"}
_FILLING = {"aten::fill", "aten::fill_"}


def install() -> None:
    """Give this process a simulated GPU until it ends."""
    with CPU:  # torch then notes which functions such a context is for, as they are now
        torch.empty(0)
    # A model's parameters have to be the same objects after its move, as on a GPU.
    torch.__future__.set_swap_module_params_on_conversion(True)
    answers: dict[str, Callable[..., object]] = {
        "_lazy_init": lambda: None,  # torch calls it before the first tensor on a GPU
        "device_count": lambda: 1,
        "get_device_capability": lambda device=None: (9, 0),
        "get_device_name": lambda device=None: "simulated",
        "get_rng_state": lambda device=None: torch.get_rng_state(),
        "is_available": lambda: True,
        "is_bf16_supported": lambda including_emulation=True: True,
        "set_rng_state": lambda state, device=None: None,
        "synchronize": lambda device=None: None,
    }
    for holder, changes in (
        (torch.cuda, answers),
        (torch.accelerator, {"synchronize": answers["synchronize"]}),
        (torch, {"Generator": _Generator, "autocast": _Autocast}),
        (torch._C, {"_group_tensors_by_device_and_dtype": _grouped}),
        (torch, {"tensor": _new_tensor, "as_tensor": _new_as_tensor}),
        (Tensor, {"to": _to, "cpu": _cpu, "cuda": _cuda, "pin_memory": _pin_memory}),
    ):
        for name, changed in changes.items():
            setattr(holder, name, changed)
    _Simulation().__enter__()  # type: ignore[no-untyped-call]


def _dispatched(
    _: object,
    func: Any,
    types: object,
    args: tuple[Any, ...] = (),
    kwargs: Mapping[str, Any] | None = None,
) -> Any:
    return _computed(func, args, dict(kwargs or {}))


class OnGpu(Tensor):
    """A tensor that says it is on the GPU; the numbers are of one on the CPU."""

    numbers: Tensor
    # What is not overridden here ends in `_computed`; no other hook is needed.
    __torch_function__ = torch._C._disabled_torch_function_impl  # type: ignore[assignment]

    @staticmethod
    def __new__(cls, numbers: Tensor) -> OnGpu:
        """Wrap a tensor on the CPU."""
        # To torch's C++ it is on the CPU: backward passes would ask the driver for a stream.
        made: OnGpu = torch.Tensor._make_wrapper_subclass(
            cls,
            numbers.size(),
            strides=numbers.stride(),
            storage_offset=numbers.storage_offset(),
            dtype=numbers.dtype,
            layout=numbers.layout,
            device=CPU,
        )
        made.numbers = numbers
        return made

    # In a thread that was started after `install` there is no `_Simulation`.
    __torch_dispatch__: Any = classmethod(_dispatched)
    device = property(lambda self: GPU)
    is_cuda = property(lambda self: True)
    is_cpu = property(lambda self: False)

    def _get_data(self) -> Tensor:
        return self.detach()

    def _set_data(self, other: OnGpu) -> None:  # C++ would leave the numbers where they were
        self.numbers = other.numbers

    data = property(_get_data, _set_data)

    def numpy(self, *, force: bool = False) -> np.ndarray[Any, Any]:
        """Refuse, as a GPU's tensor does."""
        if force:
            return self.detach().cpu().numpy()
        raise TypeError(f"simulated GPU: can't convert {self.device} device type tensor to numpy")

    def new_tensor(  # type: ignore[override]
        self, data: Any, dtype: torch.dtype | None = None, **kwargs: Any
    ) -> Tensor:
        """Return values as a tensor beside it."""
        return _new_tensor(data, dtype=dtype or self.dtype, device=GPU, **kwargs)

    def tolist(self) -> Any:
        """Return its numbers."""
        return self.numbers.tolist()

    def untyped_storage(self) -> torch.UntypedStorage:
        """Return its memory, by which savers tell whether two tensors share theirs."""
        return self.numbers.untyped_storage()

    def data_ptr(self) -> int:
        """Return where its memory begins."""
        return self.numbers.data_ptr()

    def __repr__(self) -> str:  # type: ignore[override]
        return f"OnGpu({self.numbers!r})"


class _Move(torch.autograd.Function):
    """The way to the other device, on which gradients come back."""

    @staticmethod
    def forward(context: object, value: Tensor) -> Tensor:
        return _moved(value)

    @staticmethod
    def backward(context: object, gradient: Tensor) -> Tensor:
        return _moved(gradient)


def _moved(value: Tensor) -> Tensor:
    if isinstance(value, OnGpu):
        return value.numbers.detach().clone()
    return OnGpu(value.detach().clone())


_convert: Any = Tensor.to
_tensor, _as_tensor = torch.tensor, torch.as_tensor


def _to(self: Tensor, *args: Any, copy: bool = False, **kwargs: Any) -> Tensor:
    """Move a tensor, or change its type.

    C++ cannot: it would ask the driver, and finds tensors on the GPU on the CPU already.
    """
    if args and isinstance(args[0], Tensor):  # whose device and type are to be taken
        args = (args[0].device, args[0].dtype, *args[1:])
    device, dtype, *_ = torch._C._nn._parse_to(*args, **kwargs)
    to_gpu = isinstance(self, OnGpu) if device is None else _is_gpu(device)
    changed = {} if device is None or _is_gpu(device) else {"device": device}
    if to_gpu == isinstance(self, OnGpu):
        same_side: Tensor = _convert(self, **changed, dtype=dtype or self.dtype, copy=copy)
        return same_side
    moved: Tensor = _Move.apply(  # type: ignore[no-untyped-call]
        _convert(self, dtype=dtype or self.dtype)
    )
    return moved


def _is_gpu(device: Any) -> bool:
    return device is not None and torch.device(device).type == GPU.type


def _new_tensor(values: Any, *, device: Any = None, **kwargs: Any) -> Tensor:
    made = _tensor(values, device=CPU if _is_gpu(device) else device, **kwargs)
    return _to(made, device) if _is_gpu(device) else made


def _new_as_tensor(values: Any, *, device: Any = None, **kwargs: Any) -> Tensor:
    made = _as_tensor(values, **kwargs)
    return made if device is None else _to(made, device)


_group: Any = torch._C._group_tensors_by_device_and_dtype


def _grouped(tensors: Any, with_indices: bool = False) -> dict[Any, Any]:
    """Group an optimizer's tensors, which to C++ are all on the CPU."""
    found = _group(tensors, with_indices)
    return {(group[0][0].device, dtype): (group, at) for (_, dtype), (group, at) in found.items()}


class _Simulation(dispatch.TorchDispatchMode):
    """Sees every operation, also those whose tensors are all still on the CPU."""

    __torch_dispatch__ = _dispatched


def _computed(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Return the result of an operation, on the device where a GPU would have it."""
    name, asked = func._schema.name, kwargs.get("device")
    values = [value for value in pytree.tree_leaves((args, kwargs)) if isinstance(value, Tensor)]
    is_on_gpu = any(isinstance(value, OnGpu) for value in values)
    if not is_on_gpu and (asked is None or asked.type != GPU.type):
        _check_generator(func, kwargs, CPU)
        return func(*args, **kwargs)
    if name not in _MOVES:
        _check_devices(func, args, kwargs, values)
        _check_generator(func, kwargs, GPU)
    if asked is not None:
        kwargs["device"] = CPU
    found = func(*pytree.tree_map(_inner, args), **pytree.tree_map(_inner, kwargs))
    if name == "aten::copy_":
        return args[0]
    found = pytree.tree_map(_wrapped, found)
    return dispatch.return_and_correct_aliasing(func, args, kwargs, found) if is_on_gpu else found


def _check_devices(
    func: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any], values: list[Tensor]
) -> None:
    """Refuse tensors on two devices, but for what CUDA takes: single numbers, and indices."""
    name = func._schema.name
    if name in _INDEXING:
        values = [args[0], *pytree.tree_leaves((args[2:], dict(kwargs)))]
    takes_numbers = torch.Tag.pointwise in func.tags or name in _INDEXING | _FILLING
    on_cpu = [
        value
        for value in values
        if isinstance(value, Tensor)
        and not isinstance(value, OnGpu)
        and not (takes_numbers and value.dim() == 0)
    ]
    if on_cpu:
        raise RuntimeError(
            f"simulated GPU: {func} got tensors on {GPU}, and on the CPU of shapes "
            f"{[tuple(value.shape) for value in on_cpu]}"
        )


def _check_generator(func: Any, kwargs: Mapping[str, Any], device: torch.device) -> None:
    generator = kwargs.get("generator")
    if generator is not None and (generator._cdata in _generators) != (device is GPU):
        raise RuntimeError(f"simulated GPU: {func} on {device} got the other device's generator")


def _inner(value: Any) -> Any:
    return value.numbers if isinstance(value, OnGpu) else value


def _wrapped(value: Any) -> Any:
    return OnGpu(value) if isinstance(value, Tensor) and not isinstance(value, OnGpu) else value


_generators: set[int] = set()  # addresses of those on the GPU, which are the CPU's to C++


class _Generator(torch.Generator):
    """A generator on either device; both draw the CPU's numbers."""

    def __new__(cls, device: torch.device | str = CPU) -> Any:
        made: Any = super().__new__(cls)
        is_on_gpu = torch.device(device).type == GPU.type
        (_generators.add if is_on_gpu else _generators.discard)(made._cdata)
        return made


class _Autocast(torch.autocast):
    """The CPU's, whose tensors these are to C++."""

    def __init__(self, device_type: str, *args: Any, **kwargs: Any) -> None:
        super().__init__(CPU.type, *args, **kwargs)


def _cpu(self: Tensor, *_: object) -> Tensor:
    return self.to(CPU)


def _cuda(self: Tensor, *_: object, **__: object) -> Tensor:
    return self.to(GPU)


def _pin_memory(self: Tensor, *_: object) -> Tensor:
    return self


if __name__ == "__main__":
    from tamtctl.cli.app import main

    install()
    main()
