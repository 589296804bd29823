"""``tamtctl unpack``: unpack what ``export --compress`` wrote."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tamtctl.cli.command import command
from tamtctl.models.archives import USUAL_LIMIT

if TYPE_CHECKING:
    from tamtctl.cli.console import Output


@command()
def unpack(
    output: Output,
    archive: Annotated[Path, typer.Argument(help="What export --compress wrote: FILE.tar.zst.")],
    output_dir: Annotated[Path, typer.Option(help="The model's folder; new or empty.")],
    limit: Annotated[
        float, typer.Option(help="Refuse archives that unpack to more gigabytes than this.")
    ] = USUAL_LIMIT,
) -> None:
    """Unpack what export --compress wrote: only plain files, and only inside the new folder."""
    from tamtctl.cli.views.exchange import show_unpacked
    from tamtctl.models import archives

    result = archives.unpack(archive, output_dir, limit=limit)
    show_unpacked(output, result)
    output.result(result.to_dict(), str(result.path))
