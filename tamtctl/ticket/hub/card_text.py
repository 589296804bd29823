"""The sections of a ticket's model card, in Markdown."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import PurePosixPath
from typing import Any

from tamtctl.foundations import printable
from tamtctl.ticket.format.metadata import TicketMetadata
from tamtctl.ticket.format.patterns import is_cut_from_graphs, is_sliced
from tamtctl.ticket.hub.names import IMPORTED_FROM, is_on_hub
from tamtctl.ticket.made_of import KEPT_SCORES, TICKETS, MadeOf, is_of_kept_scores
from tamtctl.ticket.measured import Measured
from tamtctl.ticket.parameter_counts import ParameterCounts

_MOST_ROWS = 200  # of a table of search settings or metrics

# Metrics with a table or sentence of their own, or that only tamtctl uses.
_TOLD = {
    "losses", "standard_errors", "check_losses", "scores", "unit", "sequences", "sequences_there",
    "trained_on", "changed", "parameters",
}  # fmt: skip


def introduction(ticket: TicketMetadata) -> str:
    """Return the introduction: the model, the sparsity, and how the ticket was found."""
    base = ticket.base_model
    code = printable.markdown_code
    at = f" (revision {code(base.revision)})" if base.revision else ""
    parts = " and ".join(f"{share:.4g} of the {part}" for part, share in ticket.sparsities.items())
    apart = f" Zeros are {parts}." if parts else ""
    if ticket.is_of_a_pattern:
        apart += f" Its pattern is {code(ticket.pattern)}, and all other matrices stay dense."
    if counts := ParameterCounts.told_by(ticket):
        apart += f" The encoder has {counts}."
    return f"""\
# A ticket of {printable.markdown(_base_name(ticket))} at sparsity {ticket.sparsity:.4g}

A binary mask over the pre-trained weights of {code(_base_name(ticket))}{at}: it keeps
{ticket.kept:,} of {ticket.total:,} weights in {len(ticket.parameters)} matrices and sets the
others to zero.{apart} {_how(ticket)} The repository \
holds the mask only, not the weights. {_gain(ticket)}"""


def _gain(ticket: TicketMetadata) -> str:
    """Return a sentence on what the zeros are good for."""
    if is_sliced(ticket.pattern):
        return (
            "What\n`tamtctl export` writes is without the pruned neurons: smaller, and faster\n"
            "everywhere."
        )
    if is_cut_from_graphs(ticket.pattern):
        return (
            "What\n`tamtctl export --format onnx` writes is without what it prunes: smaller, and "
            "faster\neverywhere."
        )
    return (
        "Zeros spread over a\nmatrix do not by themselves make a model faster or its files smaller."
    )


def _how(ticket: TicketMetadata) -> str:
    """Return how the ticket was made; `tamtctl.ticket.hub.card` finds the method by these words."""
    code = printable.markdown_code
    if made := MadeOf.of(ticket):
        how = code(made.operation)
        if made.sparsity is not None:
            how = f"the most votes, at sparsity {made.sparsity:g}"
        return (
            f"It was made by {code(ticket.method)} of\n{len(made.parts)} tickets, by their votes "
            f"({how}), without a search of its own."
        )
    if IMPORTED_FROM in ticket.search:
        return (
            f"It was imported ({code(ticket.method)}) from what another tool left;\n"
            "how that found it is not recorded."
        )
    objective = f", objective {code(ticket.objective)}" if ticket.objective else ""
    if is_of_kept_scores(ticket):
        return (
            f"It was found by {code(ticket.method)}{objective}, on unlabelled text, from\n"
            f"{KEPT_SCORES}, without further training."
        )
    if ticket.metrics.get("steps") == 0:
        how = f"found by {code(ticket.method)}, without training"
        return f"It was {how} and for\nno task in particular."
    return (
        f"It was found by {code(ticket.method)}{objective}, on unlabelled text and for\n"
        "no task in particular."
    )


def _base_name(ticket: TicketMetadata) -> str:
    """Return the base model's Hub id, or of a folder the last part, as the rest is private."""
    base = ticket.base_model
    return base.id if is_on_hub(ticket) else PurePosixPath(base.id).name or base.id


def usage(ticket: TicketMetadata, repo: str | None, branch: str | None = None) -> str:
    """Return the section on how to use the ticket, in a shell and in Python.

    Args:
        ticket: The ticket.
        repo: The Hub id under which it is published; None if it is not.
        branch: The branch that it is on; None for ``main``.
    """
    name = (f"{repo}@{branch}" if branch else repo) or "PATH_OF_THIS_FOLDER"
    fetch = pull_command(repo, branch) + "\n" if repo else ""
    return f"""\
## How to use it

```sh
pip install tamtctl
{fetch}tamtctl inspect {name}
tamtctl finetune sst2 --ticket {name}
```

```python
import torch
import tamtctl
from transformers import AutoModel

model = AutoModel.from_pretrained({_base_path(ticket)}, dtype=torch.float32)
tamtctl.Ticket.from_pretrained("{name}").apply(model, keep=True)
```

`keep=True` keeps the zeros while you train the model. `apply` takes any head class, and refuses a
model that does not hold the weights the mask was found for
(fingerprint `{ticket.base_model.fingerprint[:16]}…`). For any other tool,
`tamtctl export {name} --output-dir exported` writes the model with these zeros, as what it is."""


def pull_command(repo: str, branch: str | None) -> str:
    """Return the command that fetches a ticket from a branch; None for ``main``."""
    return f"tamtctl pull {repo}" + (f" --revision {branch}" if branch else "")


def _base_path(ticket: TicketMetadata) -> str:
    base = ticket.base_model
    if base.id == "nano":
        return "tamtctl.nano_path()"
    if base.revision:
        return f"{_literal(base.id)}, revision={_literal(base.revision)}"
    return _literal(base.id if is_on_hub(ticket) else f"PATH_OF/{_base_name(ticket)}")


def _literal(text: str) -> str:
    """Return a text as a Python literal that cannot end a block of code."""
    return json.dumps(text).replace("`", "\\u0060")


def results(ticket: TicketMetadata) -> str:
    """Return the section of results: losses beside the baselines', task metrics, all others."""
    measured = Measured.of(ticket)
    parts = [_losses(measured)]
    if scores := list(task_values(measured)):
        parts.append(_table(["task", "metric", "score"], scores))
    rest = {name: value for name, value in ticket.metrics.items() if name not in _TOLD}
    if rows := list(_flat(rest)):
        parts.append(_table(["measurement", "value"], rows))
    if not any(parts):
        return ""
    return "\n\n".join(["## Measured", *(part for part in parts if part)])


def _losses(measured: Measured) -> str:
    if not measured.losses:
        return ""
    unit = f" ({measured.unit})" if measured.unit else ""
    columns = {
        f"held-out loss{unit}": measured.losses,
        "standard error": measured.standard_errors,
        f"loss on the check corpus{unit}": measured.check_losses,
    }
    present = {name: column for name, column in columns.items() if column}
    rows = [
        [mask, *(column.get(mask, "") for column in present.values())]
        for mask in sorted(measured.losses)
    ]
    said = []
    if measured.text:
        said.append(f"Losses are means over {printable.markdown(measured.text)}.")
    if measured.check_losses and measured.check_text:
        said.append(f"The check corpus is {printable.markdown(measured.check_text)}.")
    if measured.changed is False:
        said.append("Training did not change the mask: it is the one that the search began with.")
    table = _table(["mask", *present], rows)
    return "\n\n".join([*([" ".join(said)] if said else []), table])


def search(ticket: TicketMetadata) -> str:
    """Return the section with the configuration of the search."""
    made = MadeOf.of(ticket)
    settings = {n: v for n, v in ticket.search.items() if not (made and n == TICKETS)}
    rows = [(_Code(name), value) for name, value in _flat(settings)]
    if made:
        heading = ["ticket", "method", "seed", "zeros", "SHA-256 of its masks"]
        tickets = [
            (part.name, _Code(part.method), part.seed, part.sparsity, _Code(part.masks_sha256))
            for part in made.parts[:_MOST_ROWS]
        ]
        parts = ["## How it was made", _table(heading, tickets), _table(["setting", "value"], rows)]
        return "\n\n".join(parts)
    if not rows:
        return ""
    return "## How it was found\n\n" + _table(["setting", "value"], rows)


def matrices(ticket: TicketMetadata) -> str:
    """Return the section with the sparsity of every matrix."""
    rows = [
        (_Code(name), " x ".join(map(str, entry.shape)), f"{1 - entry.kept / entry.numel:.4f}")
        for name, entry in sorted(ticket.parameters.items(), key=lambda item: _natural(item[0]))
    ]
    return "## Sparsity of each matrix\n\n" + _table(["matrix", "shape", "zeros"], rows)


def licence(ticket: TicketMetadata, own: Any, base: str | None) -> str:
    """Return the section on the licences of the ticket and of its base model.

    Args:
        ticket: The ticket.
        own: The licence in the metadata of its card; None if there is none.
        base: The licence of its base model; None if it is not known.
    """
    code, name = printable.markdown_code, printable.markdown_code(_base_name(ticket))
    told = (
        f"The base model {name} is under {code(base)}, and so is whatever of it is in a ticket: a "
        "masked-LM head that was trained along."
        if base
        else f"Under which licence the base model {name} is was not known where this was written."
    )
    if isinstance(own, str):
        told += f" This ticket is under {code(own)}."
    return f"## Licence\n\n{told}"


def _flat(values: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Yield the values of nested mappings under dotted names, at most the first ones.

    They are sorted by name, as in ``ticket.json``, so that the card of a loaded ticket is the same.
    """
    return itertools.islice(_leaves(values, ""), _MOST_ROWS)


def _leaves(values: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, Any]]:
    for name, value in sorted(values.items()):
        if isinstance(value, Mapping):
            yield from _leaves(value, f"{prefix}{name}.")
        else:
            yield prefix + name, value


def _natural(name: str) -> list[tuple[int, str]]:
    """Return a sort key by which ``layer.10`` comes after ``layer.9``."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in name.split(".")]


def _table(header: Iterable[str], rows: Iterable[Iterable[Any]]) -> str:
    return printable.markdown_table(map(_cell, header), (map(_cell, row) for row in rows))


class _Code(str):
    """A name that a table shows as code."""


def _cell(value: Any) -> str:
    if isinstance(value, _Code):
        return printable.markdown_code(value)
    if isinstance(value, list | tuple):
        return printable.markdown(printable.cell(", ".join(map(str, value[:_MOST_ROWS]))))
    text = f"{value:.4g}" if isinstance(value, float) else "" if value is None else str(value)
    return printable.markdown(printable.cell(text))


def task_values(measured: Measured) -> Iterator[tuple[str, str, float]]:
    """Yield task, metric and value of the metrics on tasks."""
    for task, metrics in measured.scores.items():
        for metric, value in metrics.items():
            yield task, metric, value
