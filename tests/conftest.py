"""What all tests share: no network, caches of their own, and a small tokenizer."""

from __future__ import annotations

import gc
import os
import signal
import string
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import pytest

# Read when the Hugging Face libraries are imported, hence before anything else.
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["HF_HUB_DISABLE_PROGRESS_BARS"] = "1"
# Tiny matrices gain nothing from threads, and lose much to them on a busy machine.
os.environ["OMP_NUM_THREADS"] = "1"

# A shell's background job ignores Ctrl-C, and so would everything that the tests start.
signal.signal(signal.SIGINT, signal.default_int_handler)

pytest_plugins = ["one_comparison"]  # a comparison that several files look at

if TYPE_CHECKING:
    from command_line import Run
    from transformers import PreTrainedTokenizerBase


def pytest_collection_finish() -> None:
    """Spare the collector what was imported; going over it took a tenth of the tests' time."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session", autouse=True)
def cache_of_the_session(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """One cache for all processes that test side by side: large texts are read once."""
    folder = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        folder = folder.parent
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TAMTCTL_CACHE", str(folder / "tamtctl-cache"))
        yield


@pytest.fixture(scope="session")
def bert_tokenizer() -> PreTrainedTokenizerBase:
    """A lower-casing WordPiece tokenizer that knows letters, digits, signs and a few words."""
    from transformers import BertTokenizer

    signs = string.ascii_lowercase + string.digits + string.punctuation + "éß中文ñ\u0301"
    words = ["the", "of", "ticket", "lottery", "mask", "##ing", "##ed", "##s"]
    specials = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    pieces = [*specials, *words, *signs, *(f"##{sign}" for sign in signs)]
    return BertTokenizer(vocab={piece: id_ for id_, piece in enumerate(pieces)})


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a tiny random BERT, its masked-LM head and its tokenizer."""
    import tiny

    return tiny.save(tmp_path_factory.mktemp("models") / "tiny-bert", "bert")


@pytest.fixture(scope="session")
def bare_bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder ``bert`` with a tiny random BERT without a head, as tasks take it."""
    import tiny

    return tiny.save(tmp_path_factory.mktemp("models") / "bert", "bert", with_head=False)


@pytest.fixture
def working_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty folder to run commands in."""
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """A function that runs ``tamtctl`` in this process."""
    from command_line import runner

    return runner(monkeypatch, capsys)


@pytest.fixture(autouse=True)
def blank_figures(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let our code draw the figures of reports, and matplotlib, which takes 3 s, not render them.

    Most tests look at numbers and words alone; a test that is marked ``renders`` has figures.
    """
    if request.node.get_closest_marker("renders"):
        return
    from matplotlib.figure import Figure

    def savefig(figure: Figure, file: BinaryIO, **_: object) -> None:
        file.write(b"<svg/>")

    monkeypatch.setattr(Figure, "savefig", savefig)


@pytest.fixture(scope="session")
def text_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two hundred paragraphs of words that the tiny tokenizer knows."""
    import random

    import tiny

    words = random.Random(0)
    lines = (" ".join(words.choices(tiny.WORDS, k=40)) + "." for _ in range(200))
    file = tmp_path_factory.mktemp("text") / "text.txt"
    file.write_text("\n".join(lines))
    return file
