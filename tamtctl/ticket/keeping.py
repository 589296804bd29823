"""Keeping pruned weights at zero, in any training loop and with any optimiser.

`KeptZeros` uses hooks on a model's encoder, and changes neither its parameters nor its class:

- the gradients of pruned weights are set to zero, so that they count in no norm or moment;
- after the step of any `torch.optim.Optimizer`, pruned weights are set to zero again, for
  optimisers that mix the gradients of a matrix (Muon) or have moments from before;
- before a forward pass, before a state dict is taken and after one is loaded, they are set to zero
  again if anything else has changed or replaced the parameters.

By the last of these, a copy (`copy.deepcopy`, `torch.save`) keeps its own zeros, too. A state dict
has the keys of the plain model.
"""

from __future__ import annotations

import weakref
from collections.abc import Mapping
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.optim.optimizer import register_optimizer_step_post_hook
from torch.utils.hooks import RemovableHandle

from tamtctl.foundations.errors import ModelError, TicketError
from tamtctl.models.encoder import base_encoder, maskable_matrices
from tamtctl.models.wrapped_models import models_inside
from tamtctl.ticket.stencils import Bound, Stencil
from tamtctl.ticket.stored import StoredTicket


class KeptZeros:
    """The pruned weights of a model, which stay zero until `release`.

    `Ticket.apply` with ``keep=True``, `Ticket.keep` and `keep_zeros` make it; `kept_zeros` returns
    that of a model.

    Attributes:
        is_kept: Whether the zeros are kept; False after `release`.

    Example:
        >>> kept = tamtctl.kept_zeros(model)  # to which a ticket was applied with keep=True
        >>> kept.is_kept, len(kept.names)
        (True, 25)
        >>> kept.release()  # from now on, training fills the zeros in
    """

    def __init__(self, encoder: nn.Module, masks: Mapping[str, Tensor]) -> None:
        """Set pruned weights to zero, and keep them there.

        Args:
            encoder: The base encoder.
            masks: Name of a matrix in it → boolean mask; True keeps.
        """
        self._stencils = {name: Stencil(mask) for name, mask in masks.items()}
        self._bound: dict[str, Bound] = {}
        self._encoder: weakref.ref[nn.Module] | None = None
        self._had_gradients = True
        self._restore_all(encoder)
        self._hooks = [
            encoder.register_forward_pre_hook(self._before_forward),
            encoder.register_state_dict_pre_hook(self._before_saving),
            encoder.register_load_state_dict_post_hook(self._after_loading),
        ]
        self.is_kept = True
        _watch_optimizers(self)

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the matrices in the base encoder."""
        return tuple(self._stencils)

    @property
    def zeros(self) -> int:
        """Number of pruned weights."""
        return sum(stencil.pruned for stencil in self._stencils.values())

    def lost(self) -> tuple[str, ...]:
        """Return the matrices in which a pruned weight is not zero at this moment.

        An optimiser that is no `torch.optim.Optimizer` can leave some after its step. They are set
        to zero at the next forward pass, unless the model is compiled, and before a state dict is
        taken.
        """
        return tuple(
            name
            for name, bound in self._bound.items()
            if (parameter := bound.parameter) is not None
            and not self._stencils[name].is_zero_in(parameter)
        )

    def are_of(self, ticket: StoredTicket) -> bool:
        """Return whether these are the zeros of a ticket; of a ``delta`` one, as many in each."""
        for name, stencil in self._stencils.items():
            entry = ticket.parameters.get(name)
            if entry is None or entry.numel - entry.kept != stencil.pruned:
                return False
            if ticket.encoding != "delta" and not stencil.begins_with(ticket.mask(name)):
                return False
        return True

    def release(self) -> None:
        """Let the zeros go: from now on pruned weights are trained like all others."""
        for hook in self._hooks:
            hook.remove()
        for bound in self._bound.values():
            bound.release()
        self._bound.clear()
        _KEPT.discard(self)
        self.is_kept = False

    def __repr__(self) -> str:
        """Return how many zeros are kept, in a line."""
        weights = sum(stencil.shape.numel() for stencil in self._stencils.values())
        state = "kept" if self.is_kept else "let go"
        return (
            f"<KeptZeros: {self.zeros:,} zeros of {weights:,} weights in {len(self._stencils)} "
            f"matrices, {state}>"
        )

    def __getstate__(self) -> dict[str, Any]:
        """Return the state without the bound parameters; a copy binds its own."""
        return self.__dict__ | {"_bound": {}, "_encoder": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        if self.is_kept:
            _watch_optimizers(self)

    def _before_forward(self, encoder: nn.Module, inputs: object) -> None:
        if torch.compiler.is_compiling() or torch._C._get_tracing_state():  # not in a graph
            return
        if getattr(encoder, "_is_replica", False):  # DataParallel's, made anew each time
            return
        # A write past autograd (`.data`) cannot be detected. So weights are always set during
        # training, and once after it, as averaged weights may have been copied in.
        has_gradients = torch.is_grad_enabled()
        only_changed = not (has_gradients or self._had_gradients)
        self._restore_all(encoder, only_changed=only_changed, in_forward=True)
        self._had_gradients = has_gradients

    def _before_saving(self, encoder: nn.Module, prefix: str, keep_vars: bool) -> None:
        self._restore_all(encoder)

    def _after_loading(self, encoder: nn.Module, incompatible_keys: object) -> None:
        self._restore_all(encoder)

    def _after_step(self, held: set[int]) -> None:
        """Set pruned weights to zero again after an optimiser's step.

        Args:
            held: The identities of the optimiser's parameters.
        """
        encoder = None if self._encoder is None else self._encoder()
        for name, bound in tuple(self._bound.items()):
            if encoder is not None and id(_attribute(encoder, name)) in held:
                bound = self._follow(encoder, name) or bound
            if id(bound.parameter) in held or bound.has_changed:
                self._restore(name, bound)

    def _restore_all(
        self, encoder: nn.Module, *, only_changed: bool = False, in_forward: bool = False
    ) -> None:
        if getattr(encoder, "_is_fsdp_managed_module", False):
            raise _cannot_keep("the model", "FSDP keeps its weights in shards")
        self._encoder = weakref.ref(encoder)
        for name in self._stencils:
            bound = self._follow(encoder, name, in_forward=in_forward)
            if bound and (bound.has_changed or not only_changed):
                self._restore(name, bound)

    def _restore(self, name: str, bound: Bound) -> None:
        parameter = bound.parameter
        # Embeddings may have new rows.
        if parameter is not None and parameter.shape != self._stencils[name].shape:
            bound.release()
            self._fit(name, parameter)
            bound.follow(self._stencils[name])
        bound.restore(self._stencils[name])

    def _follow(self, encoder: nn.Module, name: str, *, in_forward: bool = False) -> Bound | None:
        """Return the present parameter of a name, with its gradient hook; None without one.

        In a forward pass, what is there in place of a parameter that still exists is there only for
        a moment (`torch.func.functional_call`), and may be another model's. The parameter of an
        optimiser is followed at the end of its step, in any case.
        """
        bound, found = self._bound.get(name), _attribute(encoder, name)
        own = bound and bound.parameter
        is_lent = in_forward and own is not None
        if isinstance(found, nn.Parameter) and found is not own and not is_lent:
            if bound:
                bound.release()
            self._fit(name, found)
            bound = self._bound[name] = Bound(found)
        if bound:
            bound.follow(self._stencils[name])
        return bound

    def _fit(self, name: str, parameter: nn.Parameter) -> None:
        """Adapt the stencil to a new parameter, or refuse a parameter that it cannot fit."""
        if type(parameter.data) is not Tensor:
            raise _cannot_keep(name, f"it is a {type(parameter.data).__name__} now")
        if parameter.dtype not in (torch.float32, torch.float64, torch.float16, torch.bfloat16):
            raise _cannot_keep(name, f"its weights are {_dtype(parameter)} now")
        old, new = self._stencils[name].shape, parameter.shape
        if old == new:
            return
        if len(old) != len(new) or old[1:] != new[1:]:
            raise _cannot_keep(name, f"its shape is {list(new)} now, and was {list(old)}")
        self._stencils[name] = self._stencils[name].of_rows(len(new) and int(new[0]))


def keep_zeros(model: object) -> KeptZeros:
    """Keep the zeros that a sparse model holds now, in the matrices that a ticket could mask.

    This is for a checkpoint without its ticket; with the ticket, use `Ticket.keep`.

    Args:
        model: As for `Ticket.apply`.

    Raises:
        ModelError: The model holds no zeros.
        TicketError: It is no transformers model; the message names its class.

    Example:
        >>> sparse = AutoModel.from_pretrained("my-sparse-model")
        >>> tamtctl.keep_zeros(sparse).is_kept
        True
    """
    found = models_inside(model)
    if len(found) > 1:
        kinds = ", ".join(type(m).__name__ for m in found)
        raise TicketError(
            f"this {type(model).__name__} holds {len(found)} models ({kinds}); give one of them"
        )
    weights = maskable_matrices(found[0])
    if adapted := next((m for m in found[0].modules() if hasattr(m, "base_layer")), None):
        raise TicketError(
            f"this {type(found[0]).__name__} has adapters ({type(adapted).__name__} of "
            f"{type(adapted).__module__.partition('.')[0]}), which begin as zeros and would stay "
            "so; the weights below them are frozen, and keep their zeros without this"
        )
    masks = {n: mask for n, w in weights.items() if not bool((mask := w.detach() != 0).all())}
    if not masks:
        raise ModelError(f"this {type(found[0]).__name__} holds no zeros to keep")
    return keep_masked(found[0], masks)


def kept_zeros(model: object) -> KeptZeros | None:
    """Return the zeros that are kept in a model, or None if none are.

    Args:
        model: As for `Ticket.apply`; of several models inside, the first that keeps zeros counts.

    Example:
        >>> tamtctl.kept_zeros(sparse) is not None
        True
    """
    return next(filter(None, map(_kept_in, models_inside(model))), None)


def keep_masked(model: nn.Module, masks: Mapping[str, Tensor]) -> KeptZeros:
    """Keep zeros where masks prune; zeros that the model kept before are released.

    Args:
        model: A transformers model.
        masks: Name of a matrix in its base encoder → boolean mask; True keeps.
    """
    earlier = _kept_in(model)
    kept = KeptZeros(base_encoder(cast(Any, model)), masks)
    if earlier:
        earlier.release()
    return kept


def _kept_in(model: nn.Module) -> KeptZeros | None:
    for hook in base_encoder(cast(Any, model))._forward_pre_hooks.values():
        if isinstance(owner := getattr(hook, "__self__", None), KeptZeros):
            return owner
    return None


_KEPT: weakref.WeakSet[KeptZeros] = weakref.WeakSet()
_watching: list[RemovableHandle] = []


def _watch_optimizers(kept: KeptZeros) -> None:
    _KEPT.add(kept)
    if not _watching:  # one hook serves all models of the process
        _watching.append(register_optimizer_step_post_hook(_after_any_step))


@torch.compiler.disable  # type: ignore[untyped-decorator]  # else compiled anew for every parameter
def _after_any_step(optimizer: torch.optim.Optimizer, args: object, kwargs: object) -> None:
    if _KEPT:
        held = {id(p) for group in optimizer.param_groups for p in group["params"]}
        for kept in tuple(_KEPT):
            kept._after_step(held)


def _attribute(encoder: nn.Module, name: str) -> object:
    owner: object = encoder
    for part in name.split("."):
        owner = getattr(owner, part, None)
    return owner


def _cannot_keep(what: str, why: str) -> TicketError:
    return TicketError(
        f"the zeros of {what} cannot be kept: {why}; let them go first "
        "(tamtctl.kept_zeros(model).release()), or train without that"
    )


def _dtype(tensor: Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")
