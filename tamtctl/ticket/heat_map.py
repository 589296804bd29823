"""The figure of `tamtctl inspect`: heat maps by layer and type of matrix."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from tamtctl.foundations import printable
from tamtctl.foundations.errors import UsageError
from tamtctl.foundations.files import check_folder_writable, replacing_file
from tamtctl.foundations.paths import expanded
from tamtctl.foundations.untrusted import reason
from tamtctl.ticket.flips import Flips
from tamtctl.ticket.format.metadata import TicketMetadata
from tamtctl.ticket.inspection import compare_masks
from tamtctl.ticket.matrix_places import place_of
from tamtctl.ticket.similarity import Similarity

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FORMATS = (".png", ".svg")


def figure(
    tickets: Path | str | Sequence[Path | str], figure: Path | str, *, token: str | None = None
) -> Path:
    """Draw the sparsity, flips and overlap of tickets by layer and type of matrix.

    Args:
        tickets: Folder, packaged name or Hub id of one ticket or several.
        figure: The file to write, which ends in one of `FORMATS`; replaced if it exists.
        token: For private tickets on the Hub.

    Returns:
        The file.

    Raises:
        UsageError: The file cannot be written, or its ending is none of `FORMATS`.
        TicketError: A ticket is missing or not valid, or two have no matrix in common.

    Example:
        >>> tamtctl.figure(["nano-0.7", "nano-0.8"], "my-figure.png").name
        'my-figure.png'
    """
    file = expanded(figure)
    check_figure(file)
    several = [tickets] if isinstance(tickets, str | Path) else tickets
    names = [str(name) for name in several]
    found = compare_masks(names, token=token)
    save_heat_map(file, names, found.tickets, found.similarities, found.flips)
    return file


def check_figure(path: Path) -> None:
    """Check, before any work, that a figure can be written.

    Raises:
        UsageError: The name ends in no known format, or its folder does not exist.
    """
    if path.suffix.lower() not in FORMATS:
        raise UsageError(f"--figure must end in {' or '.join(FORMATS)}, got {str(path)!r}")
    if not path.absolute().parent.is_dir():
        raise UsageError(f"--figure {str(path)!r}: there is no folder {str(path.parent)!r}")
    if path.is_dir():
        raise UsageError(f"--figure {str(path)!r} is a folder; name a file in it")
    try:
        check_folder_writable(path.parent)
    except OSError as error:
        raise UsageError(f"--figure {str(path)!r} cannot be written: {reason(error)}") from error


def save_heat_map(
    path: Path,
    names: Sequence[str],
    tickets: Sequence[TicketMetadata],
    comparisons: Sequence[Similarity],
    flips: Sequence[Flips] = (),
) -> None:
    """Draw each ticket's sparsity and flips, and the Jaccard similarity of every two, as heat maps.

    Args:
        path: The file to write, with one of the endings `FORMATS`; replaced if it exists.
        names: Names of the tickets.
        tickets: The tickets.
        comparisons: The similarities of every two of them.
        flips: The flips of each ticket; unknown ones are not drawn.
    """
    panels: list[tuple[str, Mapping[str, float], float]] = [
        (f"{name}: sparsity", {n: 1 - e.kept / e.numel for n, e in ticket.parameters.items()}, 1.0)
        for name, ticket in zip(names, tickets, strict=True)
    ]
    for name, of in zip(names, flips, strict=False):
        if of.counts:
            shares = {n: count / of.sizes[n] for n, count in of.counts.items()}
            title = f"{name}: share that differs from the magnitude mask"
            panels.append((title, shares, max(shares.values()) or 1.0))
    for one in comparisons:
        values = {name: overlap.jaccard for name, overlap in one.matrices.items()}
        panels.append(
            (f"{names[one.a]} and {names[one.b]}: Jaccard of the kept weights", values, 1.0)
        )
    figure = _drawn(panels)
    with replacing_file(path) as file:
        figure.savefig(file, format=path.suffix[1:].lower(), dpi=150)


def _drawn(panels: Sequence[tuple[str, Mapping[str, float], float]]) -> Figure:
    """Draw panels, each from a title, name → value of a matrix, and the end of the colour scale."""
    from matplotlib.figure import Figure

    grids = [(title, most, *_grid(values)) for title, values, most in panels]
    rows, columns = (max(grid.shape[axis] for _, _, grid, *_ in grids) for axis in (0, 1))
    size = (4 + 0.45 * columns, (1.8 + 0.3 * rows) * len(grids))
    figure = Figure(figsize=size, layout="constrained")
    for axes, (title, most, grid, layers, types) in zip(
        figure.subplots(len(grids), squeeze=False)[:, 0], grids, strict=True
    ):
        image: Any = axes.imshow(grid, vmin=0, vmax=most, cmap="viridis", aspect="auto")
        axes.set_title(printable.cell(title), fontsize=9, parse_math=False)
        axes.set_xticks(range(len(types)), types, rotation=60, ha="right", fontsize=7)
        axes.set_yticks(range(len(layers)), layers, fontsize=7)
        axes.set_ylabel("layer", fontsize=8)
        figure.colorbar(image, ax=axes)
    return figure


def _grid(values: Mapping[str, float]) -> tuple[NDArray[np.float64], list[str], list[str]]:
    """Return values, (layers, types), NaN without such a matrix, and names of layers and types."""
    places = {name: place_of(name) for name in values}
    layers = sorted(
        {place.layer for place in places.values()}, key=lambda n: -1 if n is None else n
    )
    types = list(dict.fromkeys(place.type for place in places.values()))
    grid = np.full((len(layers), len(types)), np.nan)
    for name, place in places.items():
        grid[layers.index(place.layer), types.index(place.type)] = values[name]
    return grid, ["-" if layer is None else str(layer) for layer in layers], types
