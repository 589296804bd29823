"""The optimiser of fine-tuning: what is pruned stays exactly zero.

The gradient of a pruned weight is set to zero before it is clipped, so that Adam, which decays
nothing here, never moves it.
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor
from transformers import PreTrainedModel

from tamtctl.models import maskable_matrices
from tamtctl.training import ScoreOptimizer, linear_decay


class SparseTraining:
    """AdamW on a masked model: linear decay, clipping at 1.0, and no step for pruned weights.

    Attributes:
        learning_rate: Peak rate.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        pruned: Mapping[str, Tensor],
        learning_rate: float,
        steps: int,
    ) -> None:
        """Prepare to train every parameter of ``model``.

        Args:
            model: With its pruned weights at zero, on its device.
            pruned: Name → boolean mask of a matrix; True prunes.
            learning_rate: Peak rate.
            steps: After how many it has fallen to 0.
        """
        self.learning_rate, self._steps = learning_rate, steps
        matrices = maskable_matrices(model)
        # As numbers: with booleans this is twenty times slower on a CPU.
        self._kept = [
            (parameter := matrices[name], (~mask).to(parameter.device, parameter.dtype))
            for name, mask in pruned.items()
        ]
        parameters = [p for p in model.parameters() if p.requires_grad]
        self._parameters = parameters
        self._optimizer = ScoreOptimizer(
            parameters,
            epsilon=1e-8,
            weight_decay=0.0,
            bias_correction=True,
            clip="global",
            max_grad_norm=1.0,
        )

    def step(self, step: int) -> float:
        """Apply the gradients of step ``step`` (from 0), forget them, return the learning rate."""
        for parameter, kept in self._kept:
            if parameter.grad is not None:
                parameter.grad.mul_(kept)
        learning_rate = linear_decay(self.learning_rate, step, self._steps)
        self._optimizer.step(learning_rate)
        for parameter in self._parameters:
            parameter.grad = None
        return learning_rate

    def state_dict(self) -> dict[str, Tensor]:
        """Return what the next step depends on besides the model: name → tensor."""
        return self._optimizer.state_dict()

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Go on where `state_dict` was taken."""
        self._optimizer.load_state_dict(state)
