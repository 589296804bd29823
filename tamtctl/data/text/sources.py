"""Text sources: everything that a user can name as a corpus, read as a stream of documents.

A *document* is the unit of the split into training and held-out text: a page of the Python
documentation, a record of a JSON-lines file, CSV file, Parquet file or Hub dataset, and in a plain
text file a block of lines between blank lines, or a line where the file has no blank lines.
"""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import replace

from tamtctl.data.text.documents import PYTHON_DOCS, Source
from tamtctl.data.text.files import is_file_name, text_files, text_of_file
from tamtctl.data.text.hub import HUB_ID, current_commit, hub_dataset, hub_errors
from tamtctl.foundations.errors import CorpusError
from tamtctl.foundations.inputs import with_files
from tamtctl.foundations.paths import expanded


def open_source(source: str, text_column: str | None = None) -> list[Source]:
    """Find the text that ``source`` names; only digests are computed yet.

    Args:
        source: ``python-docs``, a file, a folder of files, or a Hub dataset ``id[:config]``.
        text_column: The column that holds the text of records; records of JSON lines and Hub
            datasets without it are skipped and counted. By default ``text``, else the only column
            of strings in the first thousand records.

    Raises:
        CorpusError: There is nothing readable of this name.
    """
    if source == PYTHON_DOCS:
        return [_python_docs()]
    path = expanded(source)
    if source.strip() and os.path.lexists(path):
        files, notes = text_files(path)
        first, *others = (text_of_file(file, text_column) for file in files)
        return [replace(first, notes=notes), *others]
    matched = HUB_ID.fullmatch(source)
    if matched and not is_file_name(path):
        return [hub_dataset(source, matched["id"], matched["config"], text_column)]
    raise _nothing_called(source)


def source_digest(source: str) -> str:
    """Return a digest of the text that ``source`` names, without decoding it.

    Files count by their content, a Hub dataset by its commit.

    Raises:
        CorpusError: There is nothing readable of this name.
    """
    path = expanded(source)
    if source == PYTHON_DOCS or (source.strip() and os.path.lexists(path)):
        files = open_source(source)
        digest = hashlib.sha256("\n".join(one.digest for one in files).encode()).hexdigest()
        names = {os.path.relpath(one.name, path): one.digest.split()[-1] for one in files}
        return with_files(digest, names)
    matched = HUB_ID.fullmatch(source)
    if matched and not is_file_name(path):
        with hub_errors(source):
            return current_commit(matched["id"])
    raise _nothing_called(source)


def _nothing_called(source: str) -> CorpusError:
    return CorpusError(
        f"{source!r} is no file or folder here, nor a Hub dataset id (owner/name[:config]); "
        f"check the path, or use {PYTHON_DOCS}"
    )


def _python_docs() -> Source:
    from tamtctl.data.text import python_docs  # only this source needs it

    pages = python_docs.documents()
    digest = hashlib.sha256()
    for page in pages:
        digest.update(json.dumps(page).encode())
    return Source(
        name=PYTHON_DOCS,
        digest=digest.hexdigest(),
        documents=lambda: iter(pages),
    )
