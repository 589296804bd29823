"""``tamtctl env``: what a bug report needs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tamtctl.cli.command import command

if TYPE_CHECKING:
    from tamtctl.cli.console import Output


@command()
def env(output: Output) -> None:
    """Print what a bug report needs: versions, device, threads, caches."""
    from tamtctl.foundations import environment

    facts = environment.env()
    output.facts({name: str(value) for name, value in facts.items()})
    output.result(facts, facts["tamtctl"])
