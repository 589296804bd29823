"""The optimiser of fine-tuning, under which pruned weights stay exactly zero.

Gradients of pruned weights are set to zero before clipping. Adam runs without weight decay, so it
never moves these weights.
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor
from transformers import PreTrainedModel

from tamtctl.models.encoder import maskable_matrices
from tamtctl.training.masked_gradients import MaskedGradients
from tamtctl.training.optimizer import PaperAdamW
from tamtctl.training.schedules import warmed_up


class SparseTraining:
    """AdamW on a masked model: linear warm-up and decay, clipping at 1.0, pruned weights fixed.

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
            model: The model on its device, with its pruned weights at zero.
            pruned: Name → boolean mask of a matrix; True prunes.
            learning_rate: Peak rate.
            steps: The number of steps after which the rate is 0.
            warm_up_steps: How many of the first steps raise the rate linearly to the peak.
        """
        self.learning_rate, self._steps = learning_rate, steps
        self._warm_up_steps = warm_up_steps
        matrices = maskable_matrices(model)
        self._gradients = MaskedGradients(matrices, {n: ~mask for n, mask in pruned.items()})
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
        """Apply and clear the gradients of a step (from 0), and return its learning rate."""
        self._gradients.apply()
        learning_rate = warmed_up(self.learning_rate, step, self._steps, self._warm_up_steps)
        self._optimizer.step(learning_rate)
        for parameter in self._parameters:
            parameter.grad = None
        return learning_rate

    def state_dict(self) -> dict[str, Tensor]:
        """Return name → tensor of the optimiser's state, all that the next step needs."""
        return self._optimizer.state_dict()

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Restore a state that `state_dict` returned."""
        self._optimizer.load_state_dict(state)
