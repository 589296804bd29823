"""Squared state gradients: E[g²] over sequences, g that of a random projection of hidden states.

With u = h / ‖h‖ the normalised hidden states of every token and layer, and signs v drawn at random,
the gradient g of Σ v·u has E[g²] = Σ (∂u/∂w)² over tokens, layers and dimensions: the diagonal of
the Gauss–Newton matrix of the distance 1 − cos to the dense model, at the dense model itself, where
that distance is half of ‖u − u₀‖². It needs no labels, and no masked-LM head.
"""

from __future__ import annotations

from tamtctl.pruning.statistics.losses import projected_states
from tamtctl.pruning.statistics.squared_gradients import cost as cost
from tamtctl.pruning.statistics.squared_gradients import gatherer as gatherer

loss = projected_states
