"""Identities: digests of a run's inputs. A finished run is reused only if its identity is equal.

An identity maps a readable name of an input (``corpus c.txt``, ``weights of model m``) to a digest
of its content. Every run folder has one in ``identity.json``.
"""

from __future__ import annotations

import glob
import hashlib
import json
from collections.abc import Iterable, Iterator
from pathlib import Path

from tamtctl.data.text.sources import source_digest
from tamtctl.data.units import UNITS
from tamtctl.foundations.digests import file_sha256
from tamtctl.foundations.errors import ModelError
from tamtctl.foundations.inputs import with_files
from tamtctl.foundations.paths import expanded
from tamtctl.foundations.shelves import Row
from tamtctl.models.files import ModelFiles
from tamtctl.models.loading import NO_PART_OF_A_MODEL
from tamtctl.models.sources import commit_of, model_folder
from tamtctl.pruning.allocations import ALLOCATIONS
from tamtctl.pruning.config import SearchConfig
from tamtctl.pruning.criteria import is_criterion
from tamtctl.pruning.patterns import find_pattern
from tamtctl.pruning.searching.held_out_text import HeldOutText
from tamtctl.pruning.statistics.table import STATISTICS
from tamtctl.ticket.finding import resolve_ticket
from tamtctl.ticket.format.metadata import METADATA_FILE
from tamtctl.training.run_folder import SCORES

# Raise it whenever the same configuration would give other bits.
ALGORITHM_VERSION = 1

Identity = dict[str, str]

# The files that are read from a model's folder: part of the model → patterns of file names.
_PARTS = {
    "weights": (
        "*.safetensors", "*.safetensors.index.json", "pytorch_model*.bin",
        "pytorch_model*.bin.index.json",
    ),
    "tokenizer": (
        "tokenizer*.json", "special_tokens_map.json", "added_tokens.json", "vocab*", "merges.txt",
        "*.model",
    ),
}  # fmt: skip
_MODULES = ("modules.json", "sentence_*_config.json", "config_sentence_transformers.json")
_OF_MODULE = ("*.json", "*.safetensors", "*.bin")


def search_identity(config: SearchConfig) -> Identity:
    """Return the identity of a search's inputs.

    Raises:
        TamtctlError: An input does not exist.
    """
    identity = _algorithm() | model_identity(config.model)
    identity |= _texts("corpus", config.corpus)
    identity |= _texts("held-out text", config.held_out)
    identity |= _texts("check corpus", config.check_corpus)
    if config.rows is not None and (package := UNITS[config.rows].made_by):
        identity[f"splitter of {config.rows}"] = package
    if not is_criterion(config.init):
        identity |= ticket_identity(config.init)
    for kind, rows in (
        ("criterion", config.criteria),
        ("statistic", [STATISTICS.find(n) for row in config.criteria for n in row.statistics]),
        ("term", config.terms),
        ("allocation", [ALLOCATIONS[config.allocation]]),
    ):
        identity |= {f"{kind} {r.name}": f"version {r.version}" for r in rows if r.version > 1}
        identity |= code_identity(kind, rows)
    identity |= code_identity("pattern", [find_pattern(config.pattern)])
    if config.from_scores is not None:
        scores = expanded(config.from_scores) / SCORES
        if scores.is_file():  # else the search says what is missing
            identity[f"kept scores of {config.from_scores}"] = file_sha256(scores)
    return identity


def code_identity(kind: str, rows: Iterable[Row]) -> Identity:
    """Return the identity of the rows whose authors may change their code: those of scripts.

    Args:
        kind: Word for a row.
        rows: Rows of any shelf.
    """
    return {f"code of {kind} {row.name}": row.code_digest() for row in rows if row.is_foreign}


def finetune_identity(
    model: str, revision: str | None, ticket: str | None, data: Identity
) -> Identity:
    """Return the identity of a fine-tuning run's inputs.

    Args:
        model: The model's name.
        revision: The commit that was asked for; None for the default.
        ticket: The name of the ticket; None for the dense model.
        data: What `TaskData.identity` says.

    Raises:
        TamtctlError: An input does not exist.
    """
    identity = _algorithm() | model_identity(model, revision) | data
    return identity if ticket is None else identity | ticket_identity(ticket)


def comparison_identity(
    text: HeldOutText, corpus: Iterable[str], tickets: Iterable[str], data: Iterable[Identity]
) -> Identity:
    """Return the identity of a comparison's inputs, without the runs of a sweep.

    Args:
        text: The model and the held-out text.
        corpus: The names of the corpus.
        tickets: The names of the tickets.
        data: What `TaskData.identity` says of each task.

    Raises:
        TamtctlError: A ticket does not exist.
    """
    identity = _algorithm() | {
        f"model {text.encoder.id}": str(text.identity["model"]),
        f"text of {' '.join(corpus)}": str(text.identity["text"]),
    }
    if "pooling" in text.identity:
        identity[f"pooling of model {text.encoder.id}"] = str(text.identity["pooling"])
    for part in (*map(ticket_identity, tickets), *data):
        identity |= part
    return identity


def model_identity(name: str, revision: str | None = None) -> Identity:
    """Return the identity of a model: digests of the files read from its folder, or its Hub commit.

    Raises:
        ModelError: There is no such model, or it cannot be read.
    """
    folder = model_folder(name)
    if folder is None:
        return {f"commit of model {name}": str(commit_of(name, revision))}
    files = ModelFiles.of(name)  # in the encoder's folder, or its parent
    places = map(glob.escape, files.module_folders())
    modules = [*_MODULES, *(f"{place}/{end}" for place in places for end in _OF_MODULE)]
    parts = {part: _files_digest(folder, patterns) for part, patterns in _PARTS.items()}
    parts["sentence modules"] = _files_digest(files.folder or folder, modules)
    parts["configuration"] = _configuration_digest(folder / "config.json")
    return {f"{part} of model {name}": digest for part, digest in parts.items() if digest}


def ticket_identity(name: str) -> Identity:
    """Return the identity of a ticket: the digest of its metadata, which has all other checksums.

    Raises:
        TamtctlError: There is no such ticket.
    """
    metadata = resolve_ticket(name).path / METADATA_FILE
    if not metadata.is_file():  # loading the ticket raises the error later
        return {}
    return {f"ticket {name}": file_sha256(metadata)}


def _algorithm() -> Identity:
    return {"algorithm version": str(ALGORITHM_VERSION)}


def _texts(kind: str, names: Iterable[str]) -> Identity:
    return {f"{kind} {name}": source_digest(name) for name in names}


def _files_digest(folder: Path, patterns: Iterable[str]) -> str:
    """Return the digest of a folder's files of these names; empty if there are none."""
    files = sorted({path for pattern in patterns for path in _matching(folder, pattern)})
    if not files:
        return ""
    try:
        digests = {str(file.relative_to(folder)): file_sha256(file) for file in files}
    except OSError as error:
        raise ModelError(f"cannot read {error.filename}: {error.strerror}") from error
    lines = "".join(f"{name} {digest}\n" for name, digest in digests.items())
    digest = hashlib.sha256(lines.encode("utf-8", "surrogateescape")).hexdigest()
    return with_files(digest, digests)


def _matching(folder: Path, pattern: str) -> Iterator[Path]:
    return (path for path in folder.glob(pattern) if path.is_file())


def _configuration_digest(file: Path) -> str:
    """Return the digest of a configuration's content, whatever its formatting."""
    try:
        values = json.loads(file.read_text(encoding="utf-8"))
        said = {key: value for key, value in values.items() if key not in NO_PART_OF_A_MODEL}
        return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()
    except (OSError, ValueError, AttributeError, RecursionError) as error:
        raise ModelError(f"{str(file)!r} is no configuration of a model: {error}") from error
