"""The model card: what a person who finds a ticket folder needs to know, in ``README.md``."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from huggingface_hub import ModelCardData

from tamtctl.ticket_format import TicketMetadata

_TAGS = ["lottery-ticket", "pruning", "mask-training"]

_CITATION = """\
@inproceedings{liu-etal-2022-learning-win,
    title = "Learning to Win Lottery Tickets in {BERT} Transfer via Task-agnostic Mask Training",
    author = "Liu, Yuanxin and Meng, Fandong and Lin, Zheng and Fu, Peng and Cao, Yanan and
      Wang, Weiping and Zhou, Jie",
    booktitle = "Proceedings of NAACL-HLT 2022",
    year = "2022",
    url = "https://arxiv.org/abs/2204.11218",
}
"""


def card(ticket: TicketMetadata) -> str:
    """Return the text of a ticket's model card: YAML metadata, then Markdown."""
    sections = [
        f"---\n{_metadata(ticket)}\n---",
        _introduction(ticket),
        _usage(ticket),
        _results(ticket),
        _matrices(ticket),
        f"## Citation\n\n```bibtex\n{_CITATION}```",
    ]
    return "\n\n".join(section for section in sections if section) + "\n"


def _metadata(ticket: TicketMetadata) -> str:
    base = ticket.base_model
    data = ModelCardData(
        # Only a Hub id has a revision; the Hub refuses cards whose base model is not one.
        base_model=base.id if base.revision else None,
        library_name="tamtctl",
        tags=[*_TAGS, ticket.method, base.model_type],
    )
    return data.to_yaml()


def _introduction(ticket: TicketMetadata) -> str:
    base = ticket.base_model
    at = f" (revision `{base.revision}`)" if base.revision else ""
    objective = f", objective `{ticket.objective}`" if ticket.objective else ""
    return f"""\
# A ticket of {base.id} at sparsity {ticket.sparsity:.4g}

A binary mask over the pre-trained weights of `{base.id}`{at}: it keeps {ticket.kept:,} of
{ticket.total:,} weights in {len(ticket.parameters)} matrices and sets the others to zero. It
was found by `{ticket.method}`{objective}, on unlabelled text and for no task in particular. The
folder holds the mask only, not the weights. Zeros spread over a matrix do not by themselves make a
model faster."""


def _usage(ticket: TicketMetadata) -> str:
    return f"""\
## How to use it

```sh
tamtctl inspect PATH_OF_THIS_FOLDER
```

```python
import torch
from transformers import AutoModel
from tamtctl.ticket import Ticket

model = AutoModel.from_pretrained({_base_path(ticket)}, dtype=torch.float32)
Ticket.from_pretrained("PATH_OF_THIS_FOLDER").apply(model)
```

`apply` takes any head class, and refuses a model that does not hold the weights the mask was
found for (fingerprint `{ticket.base_model.fingerprint[:16]}…`)."""


def _base_path(ticket: TicketMetadata) -> str:
    base = ticket.base_model
    if base.id == "nano":
        return "tamtctl.nano.nano_path()"
    return f'"{base.id}", revision="{base.revision}"' if base.revision else f'"{base.id}"'


def _results(ticket: TicketMetadata) -> str:
    rows = [f"| {_cell(name)} | {_cell(value)} |" for name, value in _flat(ticket.metrics)]
    if not rows:
        return ""
    return "\n".join(["## Measured", "", "| measurement | value |", "|---|---|", *rows])


def _matrices(ticket: TicketMetadata) -> str:
    rows = [
        f"| `{name}` | {' x '.join(map(str, entry.shape))} | {1 - entry.kept / entry.numel:.4f} |"
        for name, entry in ticket.parameters.items()
    ]
    return "\n".join(
        ["## Sparsity of each matrix", "", "| matrix | shape | zeros |", "|---|---|---|", *rows]
    )


def _flat(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the single values of nested metrics under dotted names."""
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name}.")
        elif not isinstance(value, list):
            yield prefix + name, value


def _cell(value: Any) -> str:
    text = f"{value:.4g}" if isinstance(value, float) else str(value)
    return " ".join(text.replace("|", "\\|").split())
