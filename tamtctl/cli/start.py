"""What ``tamtctl`` without a command shows: where to start, and what a ticket does not do."""

from __future__ import annotations

import typer

# What to type, and what it gives. All of it works on a fresh machine without a network or a GPU.
FIRST_COMMANDS = {
    "tamtctl search --recipe nano --sparsity 0.8": (
        "finds a ticket of nano, the small English BERT inside the package, in",
        "about a minute, and compares it with pruning without training",
    ),
    "tamtctl compare nano-0.7 nano-0.9": (
        "sets two packaged tickets beside the dense model and what needs no",
        "training, and writes a report with tables and figures",
    ),
    "tamtctl finetune python-docs-topic --ticket nano-0.7 --limit 500 --epochs 2": (
        "fine-tunes a ticket on a task, its zeros staying zeros, and scores it",
    ),
}
HONEST = (
    "Zeros spread over a matrix make nothing smaller or faster by themselves: a",
    "ticket says which weights a model can do without.",
)
_FURTHER = {
    "tamtctl list": "the tickets at hand",
    "tamtctl -h": "all commands; tamtctl COMMAND -h: its options and an example",
}


def show_start() -> None:
    """Print the commands to start with and what each gives."""
    typer.echo("tamtctl finds lottery tickets: sparse masks of BERT-like encoders, found once on")
    typer.echo("unlabelled text and good for any task. Start with one of these:\n")
    for command, gives in FIRST_COMMANDS.items():
        typer.echo(f"  {typer.style(command, bold=True)}")
        typer.echo("".join(f"      {line}\n" for line in gives))
    typer.echo("\n".join(HONEST) + "\n")
    for command, shows in _FURTHER.items():
        typer.echo(f"  {typer.style(f'{command:<14}', bold=True)}{shows}")
