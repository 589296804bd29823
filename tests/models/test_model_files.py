"""Folders of models that cannot be loaded: one line says what is in them, and what to do."""

from __future__ import annotations

import pickle
import random
import shutil
import sys
from functools import partial
from pathlib import Path
from typing import Any

import processes
import pytest
import tiny
from transformers import AutoConfig, AutoModelForMaskedLM

from tamtctl.foundations.errors import ModelError
from tamtctl.models.library_loading import load_by_library
from tamtctl.models.loading import load_encoder, load_tokenizer
from tamtctl.models.sources import source_of

POINTER = f"version https://git-lfs.github.com/spec/v1\noid sha256:{'0' * 64}\nsize 440449768\n"


def refusal(folder: Path) -> str:
    with pytest.raises(ModelError) as raised:
        load_encoder(str(folder), with_head=True)
    assert "\n" not in str(raised.value)
    return str(raised.value)


@pytest.mark.parametrize(
    "name", ["model.safetensors", "pytorch_model.bin", "tokenizer.json", "config.json"]
)
def test_a_pointer_of_git_lfs_is_named(name: str, tmp_path: Path) -> None:
    folder = tiny.save(tmp_path / "m", "bert")
    if name == "pytorch_model.bin":
        (folder / "model.safetensors").unlink()
    (folder / name).write_text(POINTER)
    assert f"{name} is a pointer of Git LFS" in refusal(folder)


@pytest.mark.parametrize("name", ["nano", "m"])
def test_what_the_library_fails_at_is_told(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(*_: object, **__: object) -> None:
        raise RuntimeError("no memory is left")

    monkeypatch.chdir(tiny.save(tmp_path / "m", "bert").parent)
    with pytest.raises(ModelError, match=f"folder '{name}' cannot be loaded: no memory is left$"):
        load_by_library(failing, name, source_of(name), None)


class Code:
    def __reduce__(self) -> Any:
        return (print, ("pwned",))


def test_nobody_is_told_to_switch_the_protection_off(tmp_path: Path) -> None:
    folder = tiny.save(tmp_path / "m", "bert")
    (folder / "model.safetensors").unlink()
    (folder / "pytorch_model.bin").write_bytes(pickle.dumps({"a": Code()}))
    message = refusal(folder)
    assert "weights_only" not in message
    assert "without running code" in message


@pytest.fixture(scope="module")
def with_sentencepiece(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A DeBERTa that brings ``spm.model`` and no ``tokenizer.json``."""
    sentencepiece = pytest.importorskip("sentencepiece")
    pytest.importorskip("google.protobuf")
    folder = tmp_path_factory.mktemp("spm")
    words = random.Random(0)
    lines = [" ".join(words.choices(tiny.WORDS, k=12)) for _ in range(300)]
    (folder / "text").write_text("\n".join(lines))
    (folder / "m").mkdir()
    sentencepiece.SentencePieceTrainer.train(
        input=str(folder / "text"), model_prefix=str(folder / "m" / "spm"), vocab_size=90,
        hard_vocab_limit=False, minloglevel=2, pad_id=0, bos_id=1, eos_id=2, unk_id=3,
        pad_piece="[PAD]", bos_piece="[CLS]", eos_piece="[SEP]", unk_piece="[UNK]",
    )  # fmt: skip
    (folder / "m" / "spm.vocab").unlink()
    config = AutoConfig.for_model("deberta-v2", **tiny.FAMILIES["deberta-v2"] | {"vocab_size": 120})
    AutoModelForMaskedLM.from_config(config).save_pretrained(folder / "m")
    return folder / "m"


def test_a_model_of_sentencepiece_is_read(with_sentencepiece: Path) -> None:
    encoder = load_encoder(str(with_sentencepiece), with_head=True)
    ids = encoder.tokenizer("the list of files")["input_ids"]
    assert (ids[0], ids[-1]) == (1, 2)
    assert encoder.tokenizer.decode(ids[1:-1]) == "the list of files"


def test_a_damaged_model_of_sentencepiece(with_sentencepiece: Path, tmp_path: Path) -> None:
    folder = tmp_path / "m"
    shutil.copytree(with_sentencepiece, folder)
    (folder / "spm.model").write_bytes(b"no model")
    with pytest.raises(ModelError, match="sentencepiece") as raised:
        load_tokenizer(str(folder))
    assert "tiktoken" not in str(raised.value)


def lack(package: str) -> None:
    """Let this process find no such package."""
    sys.modules[package] = None  # type: ignore[assignment]


@pytest.mark.parametrize("missing", ["sentencepiece", "google.protobuf"])
def test_without_the_packages_the_extra_is_named(
    with_sentencepiece: Path, missing: str, tmp_path: Path
) -> None:
    arguments = ["search", "--model", str(with_sentencepiece), "--sparsity", "0.5", "--dry-run"]
    arguments += ["--corpus", "python-docs"]
    process = processes.start(arguments, tmp_path, before=partial(lack, missing))
    process.join()
    assert process.exitcode == 1
    last = (tmp_path / "err").read_text().splitlines()[-1]
    assert "pip install 'tamtctl[sentencepiece]'" in last
    assert "tiktoken" not in last
