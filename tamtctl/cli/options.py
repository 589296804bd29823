"""Options that several commands share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, TypeVar

import typer

from tamtctl.foundations.config import DEVICES, PRECISIONS
from tamtctl.foundations.errors import UsageError

_Value = TypeVar("_Value")

JsonOption = Annotated[
    bool, typer.Option("--json", help="Print one JSON object on stdout, all else on stderr.")
]
QuietOption = Annotated[bool, typer.Option("-q", "--quiet", help="Print only the essential line.")]
DebugOption = Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")]
DeviceOption = Annotated[str, typer.Option(help=f"One of {', '.join(DEVICES)}.")]
ThreadsOption = Annotated[int | None, typer.Option(help="CPU threads of each process.", min=1)]
TokenOption = Annotated[
    str | None,
    typer.Option(help="Hub token; by default that of hf auth login, or HF_TOKEN."),
]
TicketArgument = Annotated[
    str, typer.Argument(help="A ticket: its folder, packaged name or Hub id org/name[@revision].")
]
EncodingOption = Annotated[
    str | None,
    typer.Option(help="How to store the masks: bits, zstd, or delta (needs the base model)."),
]
BaseModelOption = Annotated[
    str | None,
    typer.Option(
        help="What a model in a local folder is on the Hub: org/name[@revision]. Its weights are "
        "compared with those in the Hub's cache, if they are there."
    ),
]
DataDirOption = Annotated[
    str | None,
    typer.Option(
        help="Folder of the task's files, or GLUE's of all tasks: tsv, jsonl, csv, parquet, or "
        "SQuAD's json; by default they come from the Hub."
    ),
]
TextColumnsOption = Annotated[
    list[str] | None,
    typer.Option("--text-column", help="Column of the text; give it twice for pairs."),
]
PrecisionOption = Annotated[str, typer.Option(help=f"One of {', '.join(PRECISIONS)}.")]
CheckpointOption = Annotated[
    int | None, typer.Option(help="Steps between checkpoints; by default, every 5 minutes.")
]
SeedOption = Annotated[
    int | None,
    typer.Option(help="Of noise, order, random masks and dropout; by default the recipe's, or 1."),
]
RecipeDeviceOption = Annotated[
    str | None,
    typer.Option(
        "--device", help=f"One of {', '.join(DEVICES)}; by default the recipe's, or auto."
    ),
]


def listed(option: str, text: str | None, kind: Callable[[str], _Value]) -> tuple[_Value, ...]:
    """Return the values between the commas."""
    if text is None:
        return ()
    try:
        return tuple(kind(part.strip()) for part in text.split(","))
    except ValueError as error:
        raise UsageError(f"--{option} must be numbers between commas, got {text!r}") from error
