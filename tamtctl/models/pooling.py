"""Pooling: turning the hidden states of a text's tokens into one vector."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor


def pool(states: Tensor, attended: Tensor, modes: tuple[str, ...], skipped: int = 0) -> Tensor:
    """Return the pooled states of each text, (B, H · modes): those of all modes side by side.

    Args:
        states: Hidden states, shape (B, T, H); padding is on the right.
        attended: 1 for tokens and 0 for padding, shape (B, T).
        modes: ``cls``, ``max``, ``mean``, ``mean_sqrt_len_tokens``, ``weightedmean``,
            ``lasttoken``.
        skipped: Number of tokens at the start of each text to leave out.
    """
    own = attended.clone()
    own[:, :skipped] = 0
    weights = own.unsqueeze(2).to(states.dtype)  # (B, T, 1)
    places = torch.arange(1, states.shape[1] + 1, device=states.device)  # (T,)
    texts = torch.arange(len(states), device=states.device)

    def mean(by: Tensor, power: float = 1.0) -> Tensor:
        return (states * by).sum(1) / by.sum(1).clamp(min=1e-9) ** power

    functions: dict[str, Callable[[], Tensor]] = {
        "cls": lambda: states[texts, own.argmax(1)],
        "max": lambda: states.masked_fill(weights == 0, -torch.inf).amax(1),
        "mean": lambda: mean(weights),
        "mean_sqrt_len_tokens": lambda: mean(weights, 0.5),
        "weightedmean": lambda: mean(weights * places[:, None]),
        "lasttoken": lambda: states[texts, (own * places).argmax(1)],
    }
    return torch.cat([functions[mode]() for mode in modes], 1)
