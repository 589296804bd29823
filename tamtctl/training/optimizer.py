"""The paper's Adam, with its clipping of gradients."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial

import torch
from torch import Tensor
from torch.optim.adamw import adamw

BETA1, BETA2 = 0.9, 0.999  # as in the paper
_PIECE = 2**20  # weights updated at once with low memory, few enough for the processor's cache


class PaperAdamW:
    """The paper's Adam over scores and head, on torch's fused AdamW.

    The paper's AdamW adds epsilon outside the bias correction, torch's inside. Gradients of scores
    are so small that this makes a difference for a tenth of them. Scaling torch's epsilon at every
    step gives the paper's update. Without bias correction (the paper's KD), the learning rate is
    scaled, too, and the weight decay inversely.
    """

    def __init__(
        self,
        parameters: Sequence[Tensor],
        *,
        epsilon: float,
        weight_decay: float,
        bias_correction: bool,
        clip: str,
        max_grad_norm: float,
        low_memory: bool = False,
        rates: Sequence[float] | None = None,
    ) -> None:
        """Prepare to update parameters.

        Args:
            parameters: Tensors that are updated in place, by their ``grad``.
            epsilon: Adam's epsilon, as in the paper's formula.
            weight_decay: Decoupled weight decay.
            bias_correction: Whether the moments are corrected for their bias.
            clip: Which norm is clipped: ``global``, of all gradients, or ``per-tensor``.
            max_grad_norm: The norm to clip to.
            low_memory: Keep first moments in bfloat16, on a CPU. Second moments stay in float32: a
                step changes them by a thousandth, which bfloat16 would round away.
            rates: Factor of the learning rate for each parameter; None: 1 for all.
        """
        self._parameters = list(parameters)
        self._rates = [1.0] * len(self._parameters) if rates is None else list(rates)
        self._epsilon, self._weight_decay = epsilon, weight_decay
        self._bias_correction = bias_correction
        self._clip, self._max_grad_norm = clip, max_grad_norm
        self._low_memory = low_memory
        self._moments: dict[int, tuple[Tensor, Tensor]] = {}  # parameter's index → first, second
        self._step = 0

    def step(self, learning_rate: float) -> None:
        """Clip the gradients, and update the parameters."""
        self._step += 1
        divisor = self._clipped()
        first = 1 - BETA1**self._step
        second = math.sqrt(1 - BETA2**self._step)
        scale = 1.0 if self._bias_correction else first / second
        for rate in dict.fromkeys(self._rates):
            update = partial(
                adamw,
                max_exp_avg_sqs=[],
                fused=True,
                grad_scale=divisor,
                amsgrad=False,
                beta1=BETA1,
                beta2=BETA2,
                lr=learning_rate * rate * scale,
                weight_decay=self._weight_decay / scale,
                eps=self._epsilon / second,
                maximize=False,
            )
            with torch.no_grad():
                if self._low_memory:
                    self._update_in_pieces(update, rate)
                else:
                    self._update_at_once(update, rate)

    def _clipped(self) -> Tensor | None:
        """Clip the gradients, or return their divisor for the kernel, which saves a pass."""
        if self._clip == "per-tensor":
            for parameter in self._parameters:
                torch.nn.utils.clip_grad_norm_(parameter, self._max_grad_norm)
            return None
        gradients = [p.grad for p in self._parameters if p.grad is not None]
        norm = torch.nn.utils.get_total_norm(gradients)
        return ((norm + 1e-6) / self._max_grad_norm).clamp(min=1.0).float()

    def _update_at_once(self, update: Callable[..., None], rate: float) -> None:
        found = list(self._with_gradients(rate))
        if not found:
            return
        parameters, gradients, firsts, seconds = map(list, zip(*found, strict=True))
        steps = torch.full([len(found)], self._step - 1.0, device=parameters[0].device)
        update(parameters, gradients, firsts, seconds, state_steps=list(steps))

    def _update_in_pieces(self, update: Callable[..., None], rate: float) -> None:
        """Update piece by piece, with the first moments of a piece in float32 for the kernel."""
        for tensors in self._with_gradients(rate):
            for piece in zip(*(t.view(-1).split(_PIECE) for t in tensors), strict=True):
                parameter, gradient, stored, second = piece
                first = stored.float()
                step = torch.full((), self._step - 1.0)
                update([parameter], [gradient], [first], [second], state_steps=[step])
                stored.copy_(first)

    def _with_gradients(self, rate: float) -> Iterator[tuple[Tensor, Tensor, Tensor, Tensor]]:
        """Yield parameter, gradient, first and second moment, for parameters of this rate."""
        first_type = torch.bfloat16 if self._low_memory else None
        for i, parameter in enumerate(self._parameters):
            if parameter.grad is None or self._rates[i] != rate:
                continue
            if i not in self._moments:
                first = torch.zeros_like(parameter, dtype=first_type)
                self._moments[i] = first, torch.zeros_like(parameter)
            yield parameter, parameter.grad, *self._moments[i]

    def state_dict(self) -> dict[str, Tensor]:
        """Return name → tensor of everything the next step depends on, besides the parameters."""
        state = {"step": torch.tensor(self._step)}
        for i, (first, second) in self._moments.items():
            state |= {f"{i}.exp_avg": first, f"{i}.exp_avg_sq": second}
        return state

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Go on from a state that `state_dict` returned, with the same parameters."""
        self._step = int(state["step"])
        for i, parameter in enumerate(self._parameters):
            if f"{i}.exp_avg" in state:
                moments = (state[f"{i}.{name}"] for name in ("exp_avg", "exp_avg_sq"))
                first, second = (moment.to(parameter.device, copy=True) for moment in moments)
                self._moments[i] = first, second
