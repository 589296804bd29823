"""A user's script as mypy sees it, in strict mode: what is right is clean, what is wrong is told.

The type checker runs over this file with all others; an ``ignore`` that is not needed is an error,
so that each of these says that the checker does notice.
"""

from __future__ import annotations

import pytest

import tamtctl


def _as_a_user_writes_it() -> tuple[float, dict[str, float]]:
    config = tamtctl.SearchConfig.from_recipe(
        "nano", sparsity=0.8, corpus="text.txt", held_out=["a.txt", "b.txt"], steps=2
    )
    result = tamtctl.search(config)
    derived = tamtctl.derive(result.run_folder, sparsity=0.9)
    ticket = tamtctl.Ticket.from_pretrained(derived.ticket)
    return ticket.sparsity, result.losses


def _as_nobody_should() -> None:
    tamtctl.SearchConfig.from_recipe("nano", sparsity="0.8")  # type: ignore[arg-type]
    tamtctl.SearchConfig.from_recipe("nano", sparsty=0.8)  # type: ignore[call-arg]
    tamtctl.SearchConfig.from_recipe("nano", corpus=3)  # type: ignore[arg-type]
    tamtctl.search(tamtctl.CompareConfig())  # type: ignore[arg-type]


def test_what_a_type_checker_tells_is_told_at_run_time_too() -> None:
    assert callable(_as_a_user_writes_it)
    with pytest.raises(tamtctl.TamtctlError, match=r"^--sparsity must be a number, got '0\.8'$"):
        _as_nobody_should()
