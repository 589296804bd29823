"""The optimiser of fine-tuning: what is pruned stays exactly zero.

The gradient of a pruned weight is set to zero before it is clipped, so that Adam, which decays
nothing here, never moves it.
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor
from transformers import PreTrainedModel

from tamtctl.models.encoder import maskable_matrices
from tamtctl.training.loop import PaperAdamW, warmed_up


class SparseTraining:
    """AdamW on a masked model: linear warm-up and decay, clipping at 1.0, no step for the pruned.

    Attributes:
        learning_rate: Peak rate.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        pruned: Mapping[str, Tensor],
        learning_rate: float,
        steps: int,
        warm_up_steps: int = 0,
    ) -> None:
        """Prepare to train every parameter of ``model``.

        Args:
            model: With its pruned weights at zero, on its device.
            pruned: Name → boolean mask of a matrix; True prunes.
            learning_rate: Peak rate.
            steps: After how many the rate has fallen to 0.
            warm_up_steps: So many first steps raise the rate to the peak, each by as much.
        """
        self.learning_rate, self._steps = learning_rate, steps
        self._warm_up_steps = warm_up_steps
        matrices = maskable_matrices(model)
        # As numbers: with booleans this is twenty times slower on a CPU.
        self._kept = [
            (parameter := matrices[name], (~mask).to(parameter.device, parameter.dtype))
            for name, mask in pruned.items()
        ]
        parameters = [p for p in model.parameters() if p.requires_grad]
        self._parameters = parameters
        self._optimizer = PaperAdamW(
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
        learning_rate = warmed_up(self.learning_rate, step, self._steps, self._warm_up_steps)
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
