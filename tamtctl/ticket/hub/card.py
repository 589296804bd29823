"""The model card: what a person who finds a ticket needs to know, in ``README.md``.

The card has a part that tamtctl writes anew each time, between two comments, and whatever its owner
wrote around it, which stays.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import PurePosixPath
from typing import Any, TypeVar, cast

import yaml
from huggingface_hub import EvalResult, ModelCardData, RepoCard

from tamtctl.foundations import printable
from tamtctl.foundations.errors import TicketError
from tamtctl.foundations.public_names import public_model, public_search, texts_of
from tamtctl.foundations.untrusted import MAX_JSON_DEPTH, reason
from tamtctl.ticket.format.metadata import TicketMetadata
from tamtctl.ticket.hub.card_text import introduction, matrices, results, search, task_values, usage
from tamtctl.ticket.hub.names import DECLARED, is_hub_id, is_on_hub
from tamtctl.ticket.measured import Measured

HUB_TAG = "tamtctl"
_Metadata = TypeVar("_Metadata", bound=TicketMetadata)

_BEGIN = (
    "<!-- tamtctl writes anew what stands below, up to its end mark; write above or behind. -->"
)
_END = "<!-- end of what tamtctl writes -->"

_LONGEST_METADATA = 2**17  # characters
_MATCHES = "exact_match"  # a metric that only answers to questions have

_TAGS = [HUB_TAG, "lottery-ticket", "pruning", "mask-training"]
_MANAGED = ("base_model", "base_model_relation", "datasets", "library_name", "model-index")


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
        introduction(ticket),
        usage(ticket, repo),
        results(ticket),
        search(ticket),
        matrices(ticket),
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
    on_hub = is_on_hub(ticket)
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
    for task, metric, value in task_values(measured):
        is_of_answers = _MATCHES in measured.scores[task]
        yield EvalResult(
            task_type="question-answering" if is_of_answers else "text-classification",
            dataset_type=task,
            dataset_name=task,
            metric_type=metric,
            metric_value=round(value, 6),
        )
