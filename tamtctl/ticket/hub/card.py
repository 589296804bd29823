"""The model card: what a person who finds a ticket needs to know, in ``README.md``.

The card has a part that tamtctl writes anew each time, between two comments, and whatever its owner
wrote around it, which stays.
"""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import PurePosixPath
from typing import Any, TypeVar, cast

import yaml
from huggingface_hub import EvalResult, ModelCardData, RepoCard
from huggingface_hub.errors import HFValidationError
from huggingface_hub.utils import validate_repo_id  # type: ignore[attr-defined]

from tamtctl.foundations import printable
from tamtctl.foundations.errors import TicketError
from tamtctl.foundations.public_names import public_model, public_search, texts_of
from tamtctl.foundations.untrusted import MAX_JSON_DEPTH, reason
from tamtctl.ticket.format.metadata import TicketMetadata
from tamtctl.ticket.measured import Measured

HUB_TAG = "tamtctl"
DECLARED = "base_model"  # the field of ``search`` that repeats a base model's Hub id as declared
_Metadata = TypeVar("_Metadata", bound=TicketMetadata)

_BEGIN = (
    "<!-- tamtctl writes anew what stands below, up to its end mark; write above or behind. -->"
)
_END = "<!-- end of what tamtctl writes -->"

_LONGEST_METADATA = 2**17  # characters
_MATCHES = "exact_match"  # a metric that only answers to questions have
_MOST_ROWS = 200  # of a table whose rows come from the search or the metrics

_TAGS = [HUB_TAG, "lottery-ticket", "pruning", "mask-training"]
_MANAGED = ("base_model", "base_model_relation", "datasets", "library_name", "model-index")

# Of the metrics, what has a table or a sentence of its own, or is for tamtctl alone.
_TOLD = {
    "losses", "standard_errors", "check_losses", "scores", "unit", "sequences", "sequences_there",
    "trained_on", "changed",
}  # fmt: skip

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

# What the introduction says, and the tags repeat: of an earlier ticket the tag is not its owner's.
_FOUND_BY = re.compile(r"It was found by (`+)(?P<method>.+?)\1")

_LAST = f"{_CITATION}```"  # what the part that tamtctl writes ends with


def card(
    ticket: TicketMetadata,
    *,
    repo: str | None = None,
    license_id: str | None = None,
    existing: str = "",
    draft: str = "",
) -> str:
    """Return the text of a ticket's model card: YAML metadata, then Markdown.

    Args:
        ticket: What it describes.
        repo: The Hub id under which it is published, for the examples.
        license_id: As the Hub names licences (``apache-2.0``); by default that of ``existing``.
        existing: An earlier card, whose own text and further metadata are kept.
        draft: Another one, used where ``existing`` has nothing of its own.

    Raises:
        TicketError: The metadata of the existing card are not well-formed.
    """
    ticket = as_published(ticket)
    (old_data, own), (draft_data, own_draft) = _parse(existing), _parse(draft)
    old_data, own = old_data or draft_data, own if any(own) else own_draft
    data = _merge(_metadata(ticket, repo, license_id), old_data)
    sections = [
        _introduction(ticket),
        _usage(ticket, repo),
        _results(ticket),
        _search(ticket),
        _matrices(ticket),
        f"## Citation\n\n```bibtex\n{_LAST}",
    ]
    text = "\n\n".join(section for section in sections if section)
    before, after = own
    parts = [before, f"{_BEGIN}\n\n{text}\n\n{_END}", after]
    # Sorted, so that pushing the same again gives the same bytes.
    head = yaml.safe_dump(data, sort_keys=True, allow_unicode=True, width=10**6)
    return f"---\n{head}---\n\n" + "\n\n".join(part for part in parts if part) + "\n"


def as_published(ticket: _Metadata, declared: tuple[str, str | None] | None = None) -> _Metadata:
    """Return a ticket that names no path of this machine; one that names none is returned itself.

    Args:
        ticket: May come from a version that wrote paths down.
        declared: Hub id and revision of its base model.
    """
    search, base = public_search(ticket.search), ticket.base_model
    if declared:
        search[DECLARED] = declared[0]
    elif base.revision is None and search.get(DECLARED) != base.id:
        declared = public_model(base.id)
    if declared:
        base = replace(base, id=declared[0], revision=declared[1])
    if (search, base) == (ticket.search, ticket.base_model):
        return ticket
    return replace(ticket, search=search, base_model=base)


def own_text(text: str) -> str:
    """Return what the owner of a card wrote, without what tamtctl did."""
    return "\n\n".join(part for part in _parse(text)[1] if part)


def _parse(text: str) -> tuple[dict[str, Any], tuple[str, str]]:
    """Return a card's metadata and its own text above and below the part that tamtctl writes.

    Raises:
        TicketError: They cannot be told apart, and something of its owner's might be lost.
    """
    lines = text.lstrip("\ufeff").replace("\r\n", "\n").replace("\r", "\n").strip().split("\n")
    data: dict[str, Any] = {}
    if lines[0].rstrip() == "---":
        end = next((i for i, line in enumerate(lines[1:], 1) if line.rstrip() == "---"), None)
        if end is None:
            raise TicketError(
                "the metadata of the existing README.md begin with a line ---, but no second one "
                "ends them; add it"
            )
        data, lines = _parse_metadata("\n".join(lines[1:end])), lines[end + 1 :]
    body = "\n".join(lines)
    if _END not in body and _LAST in body:  # deleted with what stood around it
        body = body.replace(_LAST, f"{_LAST}\n\n{_END}\n\n")
    marks = body.count(_BEGIN), body.count(_END)
    if marks == (0, 0):  # a card that tamtctl has not written
        return data, ("", body.strip())
    before, _, rest = body.partition(_BEGIN)
    written, end_mark, after = rest.partition(_END)
    if marks != (1, 1) or not end_mark:
        raise TicketError(
            "in the existing README.md it cannot be told what tamtctl wrote and what is yours: put "
            f"back the lines {_BEGIN!r} and {_END!r}, once each, or delete its part"
        )
    if (found := _FOUND_BY.search(written)) and isinstance(data.get("tags"), list):
        data["tags"] = [tag for tag in data["tags"] if tag != found["method"]]
    return data, (before.strip(), after.strip())


def _parse_metadata(block: str) -> dict[str, Any]:
    try:
        # YAML's reader takes hours for what is nested deep, and a few lines of names for names
        # would unfold to more than any memory holds.
        if len(block) > _LONGEST_METADATA or _depth(block) > MAX_JSON_DEPTH:
            raise ValueError("they are too long, or nested too deep")
        if any(isinstance(event, yaml.AliasEvent) for event in yaml.parse(block)):
            raise ValueError("it refers to parts of itself by *names")
        return cast("dict[str, Any]", cast(Any, RepoCard(f"---\n{block}\n---\n").data).to_dict())
    except (ValueError, TypeError, yaml.YAMLError, RecursionError) as error:
        raise TicketError(
            f"the metadata of the existing README.md cannot be read ({reason(error)}); "
            "correct what stands between its two lines ---"
        ) from error


def _depth(block: str) -> int:
    """Return how deep brackets nest in a text, those in quotes included."""
    steps = ((c in "[{") - (c in "]}") for c in block)
    return max(itertools.accumulate(steps), default=0)


def _merge(new: dict[str, Any], old: dict[str, Any]) -> dict[str, Any]:
    """Return new metadata with what the owner of the old ones added."""
    kept = {key: value for key, value in old.items() if key not in _MANAGED}
    old_tags = old.get("tags") if isinstance(old.get("tags"), list) else []
    own_tags = [tag for tag in old_tags or [] if tag not in new["tags"]]
    return kept | new | {"tags": new["tags"] + own_tags}


def _metadata(ticket: TicketMetadata, repo: str | None, license_id: str | None) -> dict[str, Any]:
    base = ticket.base_model
    on_hub = _is_on_hub(ticket)
    results = list(_evaluations(ticket))
    data: Any = ModelCardData(
        license=license_id,
        library_name="tamtctl",
        tags=[*_TAGS, ticket.method, base.model_type],
        # The Hub refuses a base model that it does not have: nano, or somebody's folder. Of the
        # relations that it knows, "adapter" is the one that needs the base model's weights.
        base_model=base.id if on_hub else None,
        base_model_relation="adapter" if on_hub else None,
        datasets=[name for name, _ in _hub_datasets(ticket)] or None,
        model_name=(repo or _short_name(ticket)) if results else None,
        eval_results=results or None,
    )
    values: dict[str, Any] = data.to_dict()
    values.pop("model_name", None)
    return values


def _short_name(ticket: TicketMetadata) -> str:
    return f"{PurePosixPath(ticket.base_model.id).name}-{ticket.sparsity:.2g}"


def _is_on_hub(ticket: TicketMetadata) -> bool:
    """Whether the base model is one of the Hub: by its commit, or as was declared."""
    base = ticket.base_model
    is_known = base.revision is not None or ticket.search.get(DECLARED) == base.id
    return is_known and is_hub_id(base.id)


def is_hub_id(name: str) -> bool:
    """Whether a name has the form of a Hub id."""
    try:
        validate_repo_id(name)
    except HFValidationError:
        return False
    return True


def _hub_datasets(ticket: TicketMetadata) -> Iterator[tuple[str, str | None]]:
    """Yield id and configuration of the corpora that are certainly datasets of the Hub.

    ``org/name:config`` can be nothing else; ``org/name`` might have been a folder.
    """
    for corpus in texts_of(ticket.search, "corpus"):
        name, colon, config = corpus.partition(":")
        if colon and is_hub_id(name):
            yield name, printable.cell(config)


def _evaluations(ticket: TicketMetadata) -> Iterator[EvalResult]:
    """Yield what was measured of the ticket itself, for the Hub's model index."""
    measured = Measured.of(ticket)
    corpus = ", ".join(texts_of(ticket.search, "corpus"))
    hub = next(_hub_datasets(ticket), None)
    for name, losses in (
        (printable.cell(corpus) or "held-out text", measured.losses),
        ("check corpus", measured.check_losses),
    ):
        if "ticket" in losses:
            is_hub = hub is not None and losses is measured.losses
            yield EvalResult(
                task_type="fill-mask",
                dataset_type=hub[0] if hub and is_hub else "text",
                dataset_config=hub[1] if hub and is_hub else None,
                dataset_name=f"{name} (held out)",
                metric_type="loss",
                metric_name=f"{ticket.objective or 'held-out'} loss"
                + (f" ({measured.unit})" if measured.unit else ""),
                metric_value=round(losses["ticket"], 6),
            )
    for task, metric, value in _scores(measured):
        is_of_answers = _MATCHES in measured.scores[task]
        yield EvalResult(
            task_type="question-answering" if is_of_answers else "text-classification",
            dataset_type=task,
            dataset_name=task,
            metric_type=metric,
            metric_value=round(value, 6),
        )


def _scores(measured: Measured) -> Iterator[tuple[str, str, float]]:
    """Yield task, metric and value of what was scored."""
    for task, metrics in measured.scores.items():
        for metric, value in metrics.items():
            yield task, metric, value


def _introduction(ticket: TicketMetadata) -> str:
    base = ticket.base_model
    code = printable.markdown_code
    at = f" (revision {code(base.revision)})" if base.revision else ""
    objective = f", objective {code(ticket.objective)}" if ticket.objective else ""
    return f"""\
# A ticket of {printable.markdown(_base_name(ticket))} at sparsity {ticket.sparsity:.4g}

A binary mask over the pre-trained weights of {code(_base_name(ticket))}{at}: it keeps
{ticket.kept:,} of {ticket.total:,} weights in {len(ticket.parameters)} matrices and sets the
others to zero. It was found by {code(ticket.method)}{objective}, on unlabelled text and for no task
in particular. The repository holds the mask only, not the weights. Zeros spread over a matrix do
not by themselves make a model faster or its files smaller."""


def _base_name(ticket: TicketMetadata) -> str:
    """Return the base model's Hub id, or of a folder its name only: the rest is its owner's."""
    base = ticket.base_model
    return base.id if _is_on_hub(ticket) else PurePosixPath(base.id).name or base.id


def _usage(ticket: TicketMetadata, repo: str | None) -> str:
    name = repo or "PATH_OF_THIS_FOLDER"
    fetch = f"tamtctl pull {repo}\n" if repo else ""
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


def _base_path(ticket: TicketMetadata) -> str:
    base = ticket.base_model
    if base.id == "nano":
        return "tamtctl.nano_path()"
    if base.revision:
        return f"{_literal(base.id)}, revision={_literal(base.revision)}"
    return _literal(base.id if _is_on_hub(ticket) else f"PATH_OF/{_base_name(ticket)}")


def _literal(text: str) -> str:
    """Return a string of Python for a block of code, which nothing in the text can end."""
    return json.dumps(text).replace("`", "\\u0060")


def _results(ticket: TicketMetadata) -> str:
    """Return the losses beside the baselines', the scores, and whatever else was measured."""
    measured = Measured.of(ticket)
    parts = [_losses(measured)]
    if scores := list(_scores(measured)):
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


def _search(ticket: TicketMetadata) -> str:
    rows = [(_Code(name), value) for name, value in _flat(ticket.search)]
    if not rows:
        return ""
    return "## How it was found\n\n" + _table(["setting", "value"], rows)


def _matrices(ticket: TicketMetadata) -> str:
    rows = [
        (_Code(name), " x ".join(map(str, entry.shape)), f"{1 - entry.kept / entry.numel:.4f}")
        for name, entry in sorted(ticket.parameters.items(), key=lambda item: _natural(item[0]))
    ]
    return "## Sparsity of each matrix\n\n" + _table(["matrix", "shape", "zeros"], rows)


def _flat(values: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Yield the single values of nested ones under dotted names; of too many, the first ones.

    In order of the names, as in ``ticket.json``: a card does not change when a ticket is loaded.
    """
    return itertools.islice(_leaves(values, ""), _MOST_ROWS)


def _leaves(values: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, Any]]:
    for name, value in sorted(values.items()):
        if isinstance(value, Mapping):
            yield from _leaves(value, f"{prefix}{name}.")
        else:
            yield prefix + name, value


def _natural(name: str) -> list[tuple[int, str]]:
    """Return a key that sorts ``layer.10`` behind ``layer.9``."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in name.split(".")]


def _table(header: Iterable[str], rows: Iterable[Iterable[Any]]) -> str:
    lines = [list(map(_cell, header)), *(list(map(_cell, row)) for row in rows)]
    lines.insert(1, ["---"] * len(lines[0]))
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


class _Code(str):
    """A name that a table shows as code."""


def _cell(value: Any) -> str:
    if isinstance(value, _Code):
        return printable.markdown_code(value)
    if isinstance(value, list | tuple):
        return printable.markdown(printable.cell(", ".join(map(str, value[:_MOST_ROWS]))))
    text = f"{value:.4g}" if isinstance(value, float) else "" if value is None else str(value)
    return printable.markdown(printable.cell(text))
