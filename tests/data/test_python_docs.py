from __future__ import annotations

import sysconfig
from pathlib import Path

import pytest

from tamtctl.data.text.documents import Document
from tamtctl.data.text.python_docs import documents, harvest
from tamtctl.foundations.cache import cache_dir
from tamtctl.foundations.errors import CorpusError


def write(library: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = library / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return library


def test_docstrings_become_paragraphs_in_the_order_of_the_source(tmp_path: Path) -> None:
    source = '''"""The module.

    Heading
    =======

    Two lines
    make one paragraph.
    """
class A:
    """A class."""
    def method(self):
        """A method."""
async def f():
    """A coroutine."""
def undocumented(): ...
def empty():
    """   """
'''
    library = write(tmp_path, {"package/__init__.py": source, "package/inner.py": '"""Inner."""'})
    assert harvest(library) == [
        Document(
            "package",
            "The module.\nHeading\nTwo lines make one paragraph.\n"
            "A class.\nA method.\nA coroutine.",
        ),
        Document("package.inner", "Inner."),
    ]


def test_repeated_docstrings_are_kept_once(tmp_path: Path) -> None:
    library = write(
        tmp_path,
        {
            "a.py": '"""A."""\ndef f():\n    """Same."""\ndef g():\n    """Same."""',
            "b.py": '"""A."""',
        },
    )
    assert harvest(library) == [Document("a", "A.\nSame.")]


def test_topics_are_documents_of_their_own(tmp_path: Path) -> None:
    topics = "# generated\ntopics = {'assert': 'The statement\\n*****\\n\\nIt asserts.'}"
    library = write(tmp_path, {"pydoc_data/topics.py": topics})
    assert harvest(library) == [Document("topics/assert", "The statement\nIt asserts.")]


def test_nothing_is_imported_and_no_test_is_read(tmp_path: Path) -> None:
    library = write(
        tmp_path,
        {
            "fails.py": '"""Documented."""\nraise SystemExit("imported")',
            "no_python.py": '"""Template.""" {{ name }}',
            "bad_escape.py": '"""\\d is no escape."""',
            "test/test_it.py": '"""A test."""',
            "package/tests/__init__.py": '"""More tests."""',
            "site-packages/other.py": '"""Not the library\'s."""',
        },
    )
    assert [document.key for document in harvest(library)] == ["bad_escape", "fails"]


def test_a_library_without_sources_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match="no documented Python sources"):
        harvest(tmp_path)


def test_the_documentation_of_this_python() -> None:
    found = documents()
    names = [document.key for document in found]
    assert names == sorted(set(names))
    assert {"argparse", "asyncio.queues", "json", "topics/lambda"} <= set(names)
    assert sum(len(document.text.split()) for document in found) > 200_000
    lines = [line for document in found for line in document.text.split("\n")]
    assert all(line == " ".join(line.split()) != "" for line in lines)


@pytest.fixture
def small_library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A standard library of two modules, and a cache of its own."""
    documented = {name: f'"""The module {name}.\n\n{"It says much. " * 20}"""' for name in "ab"}
    library = write(tmp_path / "library", {f"{n}.py": text for n, text in documented.items()})
    monkeypatch.setattr(sysconfig, "get_path", lambda _: str(library))
    monkeypatch.setenv("TAMTCTL_CACHE", str(tmp_path / "cache"))


@pytest.mark.usefixtures("small_library")
def test_the_cache_is_read_and_a_damaged_one_rebuilt() -> None:
    found = documents()
    (file,) = (cache_dir() / "python-docs").iterdir()
    intact = file.read_bytes()
    written = file.stat().st_mtime_ns
    assert documents() == found
    assert file.stat().st_mtime_ns == written
    file.write_bytes(intact[:-100] + b"x" * 100)
    assert documents() == found
    assert file.read_bytes() == intact


@pytest.mark.usefixtures("small_library")
def test_a_cache_that_cannot_be_written_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("TAMTCTL_CACHE", str(tmp_path / "file"))
    with pytest.raises(CorpusError, match="set TAMTCTL_CACHE") as raised:
        documents()
    assert "\n" not in str(raised.value)
