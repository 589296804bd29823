"""Import reads what transformers would load, and asks where several encoders could be meant."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
from masks import magnitude_masks
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import AutoModelForMaskedLM, PreTrainedModel

from tamtctl.foundations.errors import TamtctlError, TicketError, UsageError
from tamtctl.models.checkpoint_files import CheckpointFiles
from tamtctl.models.loading import load_encoder
from tamtctl.ticket.importing import ImportResult, import_ticket

NAME = "encoder.layer.0.output.dense.weight"


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.save(tmp_path_factory.mktemp("base") / "bert", "bert")


def pruned(base: Path, sparsity: float) -> PreTrainedModel:
    model: PreTrainedModel = AutoModelForMaskedLM.from_pretrained(base, dtype=torch.float32)
    model.config.tie_word_embeddings = False
    masks = magnitude_masks(load_encoder(str(base), with_head=False).weights, sparsity)
    parameters = dict(model.base_model.named_parameters())
    with torch.no_grad():
        for name, mask in masks.items():
            parameters[name].mul_(mask)
    return model


def copied(model: PreTrainedModel) -> dict[str, Tensor]:
    return {n: t.detach().clone() for n, t in model.state_dict().items()}


def as_shards(model: PreTrainedModel, folder: Path, *, safe: bool = True) -> Path:
    """Save in several files, as ``.bin`` the way that older versions of transformers did."""
    folder.mkdir(exist_ok=True)
    state = copied(model)
    model.config.save_pretrained(folder)
    names = sorted(state)
    weight_map: dict[str, str] = {}
    stem, suffix = ("model", "safetensors") if safe else ("pytorch_model", "bin")
    for number, part in enumerate((names[::2], names[1::2]), start=1):
        file = f"{stem}-0000{number}-of-00002.{suffix}"
        weight_map |= dict.fromkeys(part, file)
        content = {n: state[n] for n in part}
        if safe:
            save_file(content, folder / file, metadata={"format": "pt"})
        else:
            torch.save(content, folder / file)
    index = {"metadata": {}, "weight_map": weight_map}
    (folder / f"{stem}.{suffix}.index.json").write_text(json.dumps(index))
    return folder


def zeros_read(done: ImportResult) -> float:
    return round(done.sparsity, 2)


def zeros_of_transformers(folder: Path) -> float:
    model = AutoModelForMaskedLM.from_pretrained(folder, dtype=torch.float32)
    weight: Tensor = dict(model.base_model.named_parameters())[NAME]
    return float((weight == 0).float().mean())


# What is in the folder, from the first to the last to be written: half of the zeros, then most.
def _stale_bin(folder: Path, old: PreTrainedModel, new: PreTrainedModel) -> None:
    as_shards(new, folder)
    torch.save(old.state_dict(), folder / "pytorch_model.bin")


def _stale_shards(folder: Path, old: PreTrainedModel, new: PreTrainedModel) -> None:
    as_shards(old, folder)
    new.save_pretrained(folder)
    # transformers removes them when it saves; a copy of the folder has both
    as_shards(old, folder)


def _stale_shards_of_another_count(
    folder: Path, old: PreTrainedModel, new: PreTrainedModel
) -> None:
    as_shards(new, folder)
    save_file(copied(old), folder / "model-00003-of-00003.safetensors")


def _bin_shards(folder: Path, old: PreTrainedModel, new: PreTrainedModel) -> None:
    as_shards(new, folder, safe=False)
    save_file(copied(old), folder / "model.fp16.safetensors")


def _stale_bin_shards(folder: Path, old: PreTrainedModel, new: PreTrainedModel) -> None:
    as_shards(old, folder, safe=False)
    torch.save(new.state_dict(), folder / "pytorch_model.bin")


FOLDERS = {
    _stale_bin: ["pytorch_model.bin"],
    _stale_shards: [
        "model-00001-of-00002.safetensors",
        "model-00002-of-00002.safetensors",
        "model.safetensors.index.json",
    ],
    _stale_shards_of_another_count: ["model-00003-of-00003.safetensors"],
    _bin_shards: ["model.fp16.safetensors"],
    _stale_bin_shards: [
        "pytorch_model-00001-of-00002.bin",
        "pytorch_model-00002-of-00002.bin",
        "pytorch_model.bin.index.json",
    ],
}


@pytest.mark.parametrize("fill", FOLDERS, ids=lambda fill: fill.__name__)
def test_of_a_folder_what_transformers_loads_is_read(base: Path, tmp_path: Path, fill: Any) -> None:
    fill(tmp_path / "c", pruned(base, 0.5), pruned(base, 0.75))
    assert zeros_of_transformers(tmp_path / "c") == 0.75
    done = import_ticket(tmp_path / "c", tmp_path / "t", model=str(base))
    assert zeros_read(done) == 0.75
    assert list(done.not_read) == FOLDERS[fill]
    index = import_ticket(tmp_path / "c" / str(done.file), tmp_path / "u", model=str(base))
    assert zeros_read(index) == 0.75


def test_a_folder_of_which_it_is_not_certain_what_is_meant(base: Path, tmp_path: Path) -> None:
    new = pruned(base, 0.75)

    def folder(name: str) -> Path:
        return as_shards(new, tmp_path / name)

    def refusal(source: Path) -> str:
        with pytest.raises(TicketError) as raised:
            import_ticket(source, tmp_path / "t", model=str(base))
        assert "\n" not in str(raised.value)
        assert not (tmp_path / "t").exists()
        return str(raised.value)

    torch.save({NAME: torch.ones(16, 32, dtype=torch.bool)}, folder("masks") / "mask.pt")
    message = refusal(tmp_path / "masks")
    assert "mask.pt" in message
    assert "model.safetensors.index.json" in message
    shard = "model-00002-of-00002.safetensors"
    assert "one part of a checkpoint" in refusal(folder("part") / shard)
    (folder("lost") / shard).unlink()
    assert f"names '{shard}', which is not there" in refusal(tmp_path / "lost")
    first = load_file(folder("twice") / "model-00001-of-00002.safetensors")
    second = load_file(tmp_path / "twice" / shard)
    save_file(first | second, tmp_path / "twice" / shard)
    assert "twice" in refusal(tmp_path / "twice")
    save_file(dict(list(second.items())[1:]), folder("less") / shard)
    assert "none of its files holds" in refusal(tmp_path / "less")
    index = "model.safetensors.index.json"
    for number, content in enumerate(
        ["", "[]", "{}", '{"weight_map": {}}', '{"weight_map": {"a": 3}}', '{"weight_map": "x"}',
         "[" * 100_000]
    ):  # fmt: skip
        (folder(f"index-{number}") / index).write_text(content)
        assert "is no index" in refusal(tmp_path / f"index-{number}")
    for name in ("../lost/model-00001-of-00002.safetensors", "/etc/passwd", "..\\x"):
        (folder("outside") / index).write_text(json.dumps({"weight_map": {"a": name}}))
        assert "outside its folder" in refusal(tmp_path / "outside")
    (folder("no-index") / index).unlink()
    assert "without the index" in refusal(tmp_path / "no-index")
    shutil.rmtree(tmp_path / "no-index")
    (tmp_path / "adapter").mkdir()
    save_file({"a": torch.ones(1)}, tmp_path / "adapter" / "adapter_model.safetensors")
    assert "an adapter" in refusal(tmp_path / "adapter")
    (tmp_path / "variant").mkdir()
    save_file({"a": torch.ones(1)}, tmp_path / "variant" / "model.fp16.safetensors")
    assert "give the file that is meant, such as" in refusal(tmp_path / "variant")


@pytest.mark.parametrize("name", ["model.safetensors", "pytorch_model.bin", "x.pt"])
def test_a_pointer_of_git_lfs_is_named(base: Path, tmp_path: Path, name: str) -> None:
    pointer = tmp_path / name
    pointer.write_text(
        f"version https://git-lfs.github.com/spec/v1\noid sha256:{'0' * 64}\nsize 440449768\n"
    )
    with pytest.raises(TicketError, match=r"is a pointer of Git LFS.*git lfs pull"):
        import_ticket(pointer, tmp_path / "t", model=str(base))


@pytest.mark.parametrize("form", ["flat", "nested"])
def test_of_two_encoders_the_user_chooses(base: Path, tmp_path: Path, form: str) -> None:
    weights = load_encoder(str(base), with_head=False).weights
    copies = {
        name: {n: t * magnitude_masks(weights, sparsity)[n] for n, t in weights.items()}
        for name, sparsity in (("ema_model", 0.25), ("model", 0.75))
    }
    if form == "flat":
        state: Any = {f"{c}.bert.{n}": t for c, copy in copies.items() for n, t in copy.items()}
    else:
        state = {c: {f"bert.{n}": t for n, t in copy.items()} for c, copy in copies.items()}
        state |= {"epoch": 3, "optimizer": {"state": {0: {"exp_avg": torch.zeros(3)}}}}
    torch.save(state, tmp_path / "state.pt")

    def imported(prefix: str | None) -> ImportResult:
        source, to = tmp_path / "state.pt", tmp_path / f"t-{prefix}"
        return import_ticket(source, to, model=str(base), prefix=prefix)

    with pytest.raises(UsageError, match=r"'ema_model\.bert\.'.*'model\.bert\.'.*--prefix"):
        imported(None)
    assert not (tmp_path / "t-None").exists()
    for prefix, sparsity in {
        "ema_model": 0.25, "model": 0.75, "model.bert": 0.75, "model.bert.": 0.75,
    }.items():  # fmt: skip
        done = imported(prefix)
        assert zeros_read(done) == sparsity
        assert len(done.other_prefixes) == 1
        assert done.ignored == (form == "nested")  # of the optimizer
    for wrong in ("mod", "", "teacher"):
        with pytest.raises(UsageError, match="is none of the prefixes"):
            imported(wrong)


def test_copies_that_prune_the_same_are_one(base: Path, tmp_path: Path) -> None:
    weights = load_encoder(str(base), with_head=False).weights
    masked = {n: t * magnitude_masks(weights, 0.5)[n] for n, t in weights.items()}
    state = {f"{c}.{n}": t * f for c, f in (("a", 1), ("b", 2)) for n, t in masked.items()}
    # A head may bring a matrix that bears a name of the encoder's, but is not one.
    torch.save(state | {"classifier.bias": torch.ones(2)}, tmp_path / "state.pt")
    done = import_ticket(tmp_path / "state.pt", tmp_path / "t", model=str(base))
    assert zeros_read(done) == 0.5
    assert (done.prefix, done.other_prefixes, done.ignored) == ("a.", ("b.",), 1)


def test_masks_of_a_teacher_and_a_student(base: Path, tmp_path: Path) -> None:
    weights = load_encoder(str(base), with_head=False).weights
    state = {
        f"{who}.{n.removesuffix('weight')}weight_mask": mask
        for who, sparsity in (("teacher", 0.25), ("student", 0.75))
        for n, mask in magnitude_masks(weights, sparsity).items()
    }
    torch.save(state, tmp_path / "masks.pt")
    with pytest.raises(UsageError, match=r"'student\.', 'teacher\.'"):
        import_ticket(tmp_path / "masks.pt", tmp_path / "t", model=str(base))
    done = import_ticket(tmp_path / "masks.pt", tmp_path / "t", model=str(base), prefix="student")
    assert zeros_read(done) == 0.75


def test_the_files_of_a_plain_checkpoint(base: Path) -> None:
    files = CheckpointFiles.find(base)
    assert files.shards == (base / "model.safetensors",)
    assert files.left_out == ()
    with pytest.raises(TamtctlError, match="no file or folder"):
        CheckpointFiles.find(base / "nothing")
