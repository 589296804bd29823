"""Text in datasets on the Hub, streamed from one commit."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache, partial
from typing import TYPE_CHECKING

from tamtctl.data.text.column import Sample, listed
from tamtctl.data.text.documents import PYTHON_DOCS, Document, Source
from tamtctl.data.text.files import STRINGS, record_documents
from tamtctl.foundations.errors import CorpusError
from tamtctl.foundations.hub_commits import dataset_commit
from tamtctl.foundations.untrusted import reason

if TYPE_CHECKING:
    import datasets

# Size of the shuffle buffer, in documents.
_SHUFFLED_TOGETHER = 10_000

HUB_ID = re.compile(r"(?P<id>\w[\w.-]*(/[\w.-]+)?)(:(?P<config>\S+))?")


def hub_dataset(name: str, repo_id: str, config: str | None, text_column: str | None) -> Source:
    """Return the source of a dataset.

    Raises:
        CorpusError: The dataset cannot be reached, or has no training split.
    """
    import datasets

    with hub_errors(name):
        revision = current_commit(repo_id)
        splits = datasets.load_dataset(repo_id, config, revision=revision, streaming=True)
    if "train" not in splits:
        raise CorpusError(f"the dataset {name} has no split 'train', but {listed(splits)}")

    @cache  # all shares and the held-out split use the same column
    def column() -> str:
        return _dataset_column(name, splits["train"], text_column)

    held_out = splits.get("validation")
    skipped: Counter[str] = Counter()
    read = partial(_dataset_documents, name, column, None if text_column is None else skipped)
    return Source(
        name=name,
        digest=f"{repo_id}:{config or ''}@{revision}",
        documents=partial(read, splits["train"]),
        held_out=held_out and partial(read, held_out),
        share=partial(_dataset_share, read, splits["train"]),
        skipped=skipped,
    )


def _dataset_column(name: str, dataset: datasets.IterableDataset, text_column: str | None) -> str:
    with hub_errors(name, is_found=True):
        features = dataset.features or {}
        declared = [n for n, f in features.items() if getattr(f, "dtype", "") in STRINGS]
        sample = Sample.of(((name, record) for record in dataset), declared)
        return sample.text_column(text_column) if sample.records else text_column or "text"


def current_commit(repo_id: str) -> str:
    """Return the current commit of a dataset on the Hub."""
    from tamtctl.foundations.hub_requests import HubRequests

    return HubRequests(repo_id, kind="dataset").ask(lambda: dataset_commit(repo_id))


def _dataset_documents(
    name: str,
    column: Callable[[], str],
    skipped: Counter[str] | None,
    dataset: datasets.IterableDataset,
) -> Iterator[Document]:
    chosen = column()
    with hub_errors(name, is_found=True):
        records = ((f"{name} row {row}", record) for row, record in enumerate(dataset))
        yield from record_documents(records, chosen, skipped)


def _dataset_share(
    read: Callable[[datasets.IterableDataset], Iterator[Document]],
    dataset: datasets.IterableDataset,
    seed: int,
    epoch: int,
    share: int,
    shares: int,
) -> Iterator[Document]:
    """Read a share: some of the files, if they can be shared evenly, else some of the rows."""
    from datasets.distributed import split_dataset_by_node

    shuffled = dataset.shuffle(seed=seed, buffer_size=_SHUFFLED_TOGETHER)
    shuffled.set_epoch(epoch)
    return read(split_dataset_by_node(shuffled, share, shares))


@contextmanager
def hub_errors(name: str, *, is_found: bool = False) -> Iterator[None]:
    """Turn every error of the Hub within this context into a CorpusError of one line."""
    from tamtctl.foundations.hub_requests import HubRequests, MissingRepoError, UnreachableError

    instead = f"use {PYTHON_DOCS} or a local file"
    try:
        yield
    except CorpusError:
        raise
    except Exception as error:  # a dataset can fail in as many ways as there are formats
        hub_error = HubRequests(name.split(":")[0], kind="dataset").explained(error)
        match hub_error:
            case None:
                line = f"cannot read the dataset {name}: {reason(error)}; {instead}"
            case _ if is_found:
                line = f"lost the Hub while reading the dataset {name}: {hub_error}"
            case MissingRepoError():
                line = (
                    f"no file or folder {name!r} here, and no such dataset on the Hub "
                    "(a private one needs `hf auth login`)"
                )
            case UnreachableError():
                line = (
                    f"no file or folder {name!r} here, and no network to the Hub to look there: "
                    f"{hub_error}; {instead}"
                )
            case _:
                line = f"no file or folder {name!r} here, and {hub_error}; {instead}"
        raise CorpusError(line) from error
