"""Finding and reading the tensors of a checkpoint on disk, as transformers would load them.

No file is unpickled: ``torch.load`` reads tensors only (``weights_only=True``).
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor
from transformers.utils import (
    SAFE_WEIGHTS_INDEX_NAME,
    SAFE_WEIGHTS_NAME,
    WEIGHTS_INDEX_NAME,
    WEIGHTS_NAME,
)

from tamtctl.foundations.errors import TicketError
from tamtctl.foundations.untrusted import reason

MASK_FILE = "mask.pt"  # file name in the paper's code and in BERT-Tickets
# In the order in which transformers looks for them.
WEIGHTS = (SAFE_WEIGHTS_NAME, SAFE_WEIGHTS_INDEX_NAME, WEIGHTS_NAME, WEIGHTS_INDEX_NAME)
_LOOK_LIKE_WEIGHTS = ("model*.safetensors", "pytorch_model*.bin", "adapter_model.*", "*.index.json")
_SHARD = re.compile(r".*-\d+-of-\d+\.\w+")
_LFS_POINTER = b"version https://git-lfs.github.com/spec/"
_MAX_INDEX_BYTES = 64 * 2**20
_LONGEST_NAME = 200
_DEEPEST = 8  # deepest nesting of mappings, enough for the model inside a training state


@dataclass(frozen=True)
class CheckpointFiles:
    """Which files hold a checkpoint.

    Attributes:
        chosen: The file that was found: a file of tensors, or the index of several.
        shards: The files of tensors.
        left_out: Names of other files beside them that look like weights, and are not read.
    """

    chosen: Path
    shards: tuple[Path, ...]
    left_out: tuple[str, ...] = ()

    @classmethod
    def find(cls, path: Path) -> CheckpointFiles:
        """Find the files of a checkpoint in a folder, or take a single file.

        Raises:
            TicketError: There are none, or it is ambiguous which are meant.
        """
        if path.is_dir():
            return cls._in_folder(path)
        if not path.is_file():
            raise TicketError(f"there is no file or folder {str(path)!r}")
        if path.name.endswith(".index.json"):
            return cls(path, _shards(path))
        if _SHARD.fullmatch(path.name):
            raise TicketError(
                f"{str(path)!r} is one part of a checkpoint in several; give the folder, or the "
                "index that names all parts"
            )
        return cls(path, (path,))

    @classmethod
    def _in_folder(cls, folder: Path) -> CheckpointFiles:
        found = [folder / name for name in WEIGHTS if (folder / name).is_file()]
        if masks := [folder / MASK_FILE] if (folder / MASK_FILE).is_file() else []:
            if found:
                raise TicketError(
                    f"folder {str(folder)!r} holds {MASK_FILE} and {found[0].name}; give the file "
                    f"that is meant: {str(masks[0])!r} or {str(found[0])!r}"
                )
            return cls(masks[0], (masks[0],), _others(folder, masks))
        if not found:
            raise TicketError(_nothing_in(folder))
        chosen = found[0]
        shards = _shards(chosen) if chosen.name.endswith(".index.json") else (chosen,)
        return cls(chosen, shards, _others(folder, [chosen, *shards]))

    def read(self) -> dict[str, Tensor]:
        """Return name → tensor, of all files.

        Raises:
            TicketError: A file cannot be read, two files hold the same tensor, or none holds one
                that the index names.
        """
        tensors: dict[str, Tensor] = {}
        for file in self.shards:
            content = read_tensors(file)
            if twice := sorted(tensors.keys() & content.keys()):
                raise TicketError(
                    f"{str(self.chosen)!r} names files that hold {_shown(twice[0])} twice, the "
                    f"second time in {file.name}; save the checkpoint again into an empty folder"
                )
            tensors |= content
        named = _weight_map(self.chosen) if self.chosen.name.endswith(".index.json") else {}
        if lost := sorted(named.keys() - tensors.keys()):
            raise TicketError(
                f"{str(self.chosen)!r} names {_shown(lost[0])}, which none of its files holds; "
                "fetch or save the checkpoint again"
            )
        return tensors


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Return name → tensor of one file; tensors in nested mappings are named ``outer.inner``.

    Raises:
        TicketError: The file cannot be read without running code, or holds no named tensors.
    """
    refuse_lfs_pointer(path)
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        content = torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        raise TicketError(f"cannot read {str(path)!r}: {reason(error)}") from error
    except SafetensorError as error:
        raise TicketError(f"{str(path)!r} is damaged: {reason(error)}") from error
    except Exception as error:  # torch.load raises anything, from KeyError to RuntimeError
        raise TicketError(
            f"{str(path)!r} is no file of tensors that can be read without running code in it; "
            "save its tensors alone, as .safetensors"
        ) from error
    if not isinstance(content, Mapping):
        raise TicketError(f"{str(path)!r} holds no tensors by name")
    return {name: t for name, t in _flat(content) if not t.is_meta}


def is_lfs_pointer(path: Path) -> bool:
    """Whether a file is a pointer that git leaves in place of a large file without git-lfs."""
    try:
        with path.open("rb") as file:
            return path.is_file() and file.read(len(_LFS_POINTER)) == _LFS_POINTER
    except OSError:
        return False


def refuse_lfs_pointer(path: Path) -> None:
    """Raise TicketError if a file is a pointer of Git LFS instead of the file itself."""
    if path.is_file() and is_lfs_pointer(path):
        raise TicketError(
            f"{str(path)!r} is a pointer of Git LFS, not the file itself; fetch it (git lfs pull)"
        )


def _flat(content: Mapping[object, object], depth: int = 0) -> Iterator[tuple[str, Tensor]]:
    for name, value in content.items():
        if isinstance(value, Tensor):
            yield str(name), value
        elif isinstance(value, Mapping) and depth < _DEEPEST:
            for inner, tensor in _flat(value, depth + 1):
                yield f"{name}.{inner}", tensor


def _weight_map(index: Path) -> dict[str, str]:
    """Return name of a tensor → file, from an index that is not trusted."""
    refuse_lfs_pointer(index)
    try:
        if index.stat().st_size > _MAX_INDEX_BYTES:
            raise TicketError(f"{str(index)!r} has more than {_MAX_INDEX_BYTES} bytes")
        content = json.loads(index.read_text(encoding="utf-8"))
        files = content["weight_map"]
        if not files or not all(isinstance(file, str) for file in files.values()):
            raise TypeError
        return dict(files)
    except OSError as error:
        raise TicketError(f"cannot read {str(index)!r}: {reason(error)}") from error
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise TicketError(
            f"{str(index)!r} is no index of a checkpoint in several files; fetch it again"
        ) from error


def _shards(index: Path) -> tuple[Path, ...]:
    names = sorted(set(_weight_map(index).values()))
    for name in names:
        if Path(name).name != name or "\\" in name:
            raise TicketError(f"{str(index)!r} names a file outside its folder: {_shown(name)}")
        if not (index.parent / name).is_file():
            raise TicketError(
                f"{str(index)!r} names {_shown(name)}, which is not there; fetch or save the "
                "checkpoint again"
            )
    return tuple(index.parent / name for name in names)


def _others(folder: Path, read: list[Path]) -> tuple[str, ...]:
    similar = {file for pattern in _LOOK_LIKE_WEIGHTS for file in folder.glob(pattern)}
    return tuple(sorted(file.name for file in similar - set(read) if file.is_file()))


def _nothing_in(folder: Path) -> str:
    """Return the message that says why a folder holds no checkpoint, and what to give."""
    others = _others(folder, [])
    start = f"folder {str(folder)!r} holds none of {', '.join(WEIGHTS)} and {MASK_FILE}"
    if any(name.startswith("adapter_model.") for name in others):
        return f"{start}, but an adapter, which has no weights of its own; merge it and save that"
    if any(_SHARD.fullmatch(name) for name in others):
        return f"{start}, but parts without the index that names them all; fetch that, too"
    if others:
        return f"{start}; give the file that is meant, such as {str(folder / others[0])!r}"
    return f"{start}; give the file"


def _shown(name: str) -> str:
    """Return a tensor's name for a message, in ASCII and not shortened unless very long."""
    return ascii(name if len(name) <= _LONGEST_NAME else f"{name[:_LONGEST_NAME]}…")
