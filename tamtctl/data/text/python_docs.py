"""The embedded corpus ``python-docs``: the documentation inside the user's Python installation.

The help topics (``pydoc_data``) and the docstrings of the standard library are parsed with ``ast``:
nothing is imported or downloaded, and the package contains none of this text.
"""

from __future__ import annotations

import ast
import hashlib
import json
import os
import re
import sys
import sysconfig
import warnings
from collections.abc import Iterator
from pathlib import Path

from tamtctl.data.text.documents import Document
from tamtctl.foundations.cache import cache_folder
from tamtctl.foundations.errors import CorpusError
from tamtctl.foundations.files import write_whole
from tamtctl.foundations.working import counted

HARVEST_VERSION = 1
"""Raised whenever the same Python would yield another text, so that old caches are not read."""

# Tests, applications and bundled copies of other projects have little prose, or others' prose.
_SKIPPED_FOLDERS = {
    "__pycache__", "_bundled", "_vendor", "dist-packages", "idlelib", "idle_test", "lib-dynload",
    "lib2to3", "site-packages", "test", "tests", "turtledemo",
}  # fmt: skip
_TOPICS = "pydoc_data.topics"
_RULE = re.compile(r"([*=~^#\"'`.+-])\1{2,}")  # the line under a reST heading


def documents() -> list[Document]:
    """Return the documentation of the running Python, sorted by key.

    A document is one module's, of paragraphs in the order of the source, one a line; its key is the
    module's dotted path (``asyncio.queues``). Or it is a help topic; its key is ``topics/`` and the
    topic's name. The part before the first dot or slash says where in the standard library it
    belongs.

    The first call takes some seconds; later ones read the cache under ``cache_dir()``.

    Raises:
        CorpusError: This Python has no standard-library sources, or the cache cannot be written.
    """
    library = Path(sysconfig.get_path("stdlib"))
    identity = f"{HARVEST_VERSION}\n{sys.version}\n{library}"
    version = ".".join(map(str, sys.version_info[:3]))
    key = hashlib.sha256(identity.encode()).hexdigest()[:8]
    path = cache_folder("python-docs") / f"{version}-{key}.json"
    cached = _read_cache(path)
    if cached is None:
        cached = harvest(library)
        _write_cache(path, cached)
    return cached


def harvest(library: Path) -> list[Document]:
    """Read the documentation of the standard library in the folder ``library``, uncached.

    Docstrings that repeat an earlier one exactly are dropped.

    Raises:
        CorpusError: The folder has no documented Python sources.
    """
    seen: set[str] = set()
    harvested = []
    for name, texts in sorted(_sources(library)):
        new = [text for text in dict.fromkeys(texts) if text not in seen]
        seen.update(new)
        if new:
            harvested.append(Document(name, "\n".join(new)))
    if not harvested:
        raise CorpusError(
            f"python-docs: no documented Python sources in {library}; "
            "use a Python with its standard library's .py files, or name another --corpus"
        )
    return harvested


def _sources(library: Path) -> Iterator[tuple[str, list[str]]]:
    """Yield name and texts of every module and of every help topic."""
    files = list(_files(library))
    for path in counted(files, "reading module", len(files)):
        parts = path.relative_to(library).with_suffix("").parts
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        tree = _parse(path)
        if name == _TOPICS:
            for topic, text in _topics(tree).items():
                yield f"topics/{topic}", [_paragraphs(text)]
        else:
            yield name, [text for text in map(_paragraphs, _docstrings(tree)) if text]


def _files(library: Path) -> Iterator[Path]:
    for folder, subfolders, files in os.walk(library):
        subfolders[:] = [name for name in subfolders if name not in _SKIPPED_FOLDERS]
        yield from (Path(folder, file) for file in files if file.endswith(".py"))


def _parse(path: Path) -> ast.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # invalid escapes in a docstring do not matter here
        try:
            return ast.parse(path.read_bytes())
        except (SyntaxError, ValueError):  # not Python, but a template for example
            return ast.Module([], [])


def _topics(tree: ast.Module) -> dict[str, str]:
    """Return the dictionary that the module assigns to ``topics``."""
    for node in tree.body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "topics":
            return dict(ast.literal_eval(node.value))
    return {}


def _docstrings(tree: ast.Module) -> Iterator[str]:
    """Yield the docstrings of a module, its classes and its functions, in source order."""
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    nodes = [node for node in _statements(tree) if isinstance(node, documented)]
    nodes.sort(key=lambda node: getattr(node, "lineno", 0))
    for node in nodes:
        if text := ast.get_docstring(node):
            yield text


def _statements(tree: ast.AST) -> Iterator[ast.AST]:
    """Yield the tree and all statements in it; most nodes are in expressions, which hold none."""
    yield tree
    for child in ast.iter_child_nodes(tree):
        if isinstance(child, (ast.stmt, ast.excepthandler, ast.match_case)):
            yield from _statements(child)


def _paragraphs(text: str) -> str:
    """Return the text with each paragraph on one line and without heading rules."""
    lines = ("" if _RULE.fullmatch(line.strip()) else line.strip() for line in text.splitlines())
    blocks = re.split(r"\n{2,}", "\n".join(lines))
    return "\n".join(paragraph for block in blocks if (paragraph := " ".join(block.split())))


def _read_cache(path: Path) -> list[Document] | None:
    """Return the cached documents, or None if there are none or the file is damaged."""
    try:
        digest, body = path.read_bytes().split(b"\n", 1)
    except (OSError, ValueError):
        return None
    if hashlib.sha256(body).hexdigest().encode() != digest:
        return None
    return [Document(name, text) for name, text in json.loads(body)]


def _write_cache(path: Path, harvested: list[Document]) -> None:
    body = json.dumps(harvested).encode()
    content = hashlib.sha256(body).hexdigest().encode() + b"\n" + body
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, content)
    except OSError as error:
        raise CorpusError(
            f"cannot write the cache {path}: {error.strerror}; "
            "set TAMTCTL_CACHE to a folder with room that you can write to"
        ) from error
