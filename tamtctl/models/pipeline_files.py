"""The files that tell sentence-transformers how to use an encoder, for an exported checkpoint.

``modules.json`` lists the modules after the encoder; other files have the settings of each module,
the prompts and the length limit. Only data of known modules is copied: JSON objects and tensors,
all of them read before anything is written. Code is never copied, and no link is followed out of
the model's folder.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import Any

from safetensors.torch import save_file
from torch import Tensor

from tamtctl.foundations.errors import ModelError
from tamtctl.foundations.files import give_usual_rights
from tamtctl.foundations.paths import expanded
from tamtctl.foundations.plain_files import leads_out
from tamtctl.models.files import (
    CONFIG_FILE,
    ENCODER_KINDS,
    MAIN_CONFIG,
    MODULES,
    TRANSFORMER_CONFIGS,
    ModelFiles,
    module_kind,
)
from tamtctl.models.sentence_modules import WEIGHTS, module_weights

SENTENCE, CROSS = "SentenceTransformer", "CrossEncoder"
HEAD_SETTINGS = "sentence_transformers"  # key in config.json, of a CrossEncoder's head
_LOADERS = (SENTENCE, "SparseEncoder", CROSS, "MultiVectorEncoder")

# Task for which the encoder's module is loaded → head that this needs; None: any head.
_TASK_HEADS = {
    "feature-extraction": None,
    "fill-mask": "masked-lm",
    "sequence-classification": "sequence-classification",
}
_MOST_BYTES = 2**28  # of the weights of one module
_TRANSFORMER = "sentence_transformers.models.Transformer"
_USUAL_NAMES = ("Transformer", "MLMTransformer")


@dataclass(frozen=True)
class _Kind:
    """The files of a kind of module."""

    config: str = CONFIG_FILE
    needs_config: bool = True
    has_weights: bool = False


_KINDS = {
    "Pooling": _Kind(),
    "Dense": _Kind(has_weights=True),
    "Normalize": _Kind(needs_config=False),
    "LayerNorm": _Kind(has_weights=True),
    "Dropout": _Kind(needs_config=False),
    "CNN": _Kind("cnn_config.json", has_weights=True),
    "LSTM": _Kind("lstm_config.json", has_weights=True),
    "WeightedLayerPooling": _Kind(has_weights=True),
    "SpladePooling": _Kind(),
    "SparseAutoEncoder": _Kind(has_weights=True),
    "MultiVectorMask": _Kind(needs_config=False),
    "HierarchicalTokenPooling": _Kind(needs_config=False),
}


@dataclass(frozen=True)
class PipelineFiles:
    """The files that go beside an exported model of sentence-transformers; none for other models.

    Attributes:
        loader: The class of sentence-transformers that loads the model; empty if there are no
            files.
        kinds: The classes of the modules, in order.
        head: The head that the encoder's module needs; None: any, since it reads hidden states.
        documents: Name → content of the JSON files.
        tensors: Name → tensors of the safetensors files.
        left_out: Why nothing is copied although the model has a ``modules.json``; else empty.
    """

    loader: str = ""
    kinds: tuple[str, ...] = ()
    head: str | None = None
    documents: Mapping[str, Any] = field(default_factory=dict)
    tensors: Mapping[str, Mapping[str, Tensor]] = field(default_factory=dict)
    left_out: str = ""

    @classmethod
    def of(cls, name: str, revision: str | None = None) -> PipelineFiles:
        """Read the files of a model.

        Args:
            name: ``nano``, a folder or a Hub id.
            revision: Branch, tag or commit on the Hub.

        Raises:
            ModelError: A file is damaged, missing, or leads out of the model's folder.
        """
        files = ModelFiles.of(name, revision)
        if files.are_unknown(MODULES):
            return cls(
                left_out=f"the Hub could not be asked whether {name} is a model of "
                f"sentence-transformers: {MODULES} is left out"
            )
        _refuse_link(files, MODULES)
        if (modules := files.modules()) is None:
            return cls()
        if obstacle := _obstacle(files, modules):
            return cls(left_out=f"{MODULES} of model {name} {obstacle}: it is left out")
        return _Reading(files, modules).everything()

    @classmethod
    def of_a_part(cls, name: str, revision: str | None = None) -> PipelineFiles:
        """Return the files for the encoder with a new head; without files if they are damaged."""
        try:
            return cls.of(name, revision).for_head("new")
        except ModelError as error:
            return cls(left_out=f"{error}: {MODULES} is left out of the checkpoints")

    def for_head(self, head: str) -> PipelineFiles:
        """Return the files for a checkpoint with this head, or none if it does not fit."""
        if not self.loader or self.head in (None, head):
            return self
        return PipelineFiles(
            left_out=f"{MODULES} makes a {self.loader} of the model's own {self.head} head, which "
            "this checkpoint does not have: it is left out"
        )

    def with_vocabulary(self, size: int) -> PipelineFiles:
        """Return the files for a vocabulary of another size, which a SpladePooling may state."""
        documents = dict(self.documents)
        for module in documents.get(MODULES, ()):
            name = f"{module['path']}/{_KINDS['SpladePooling'].config}"
            if module_kind(module) == "SpladePooling" and name in documents:
                stated = documents[name].get("word_embedding_dimension")
                known = {} if stated is None else {"word_embedding_dimension": size}
                documents[name] = documents[name] | known
        return replace(self, documents=documents)

    def write(self, folder: Path) -> None:
        """Write the files into the folder of a checkpoint.

        Raises:
            ModelError: A file would overwrite one of the checkpoint's.
        """
        for name in (*self.documents, *self.tensors):
            inner = [folder / parent for parent in PurePosixPath(name).parents][:-1]
            if any(place.is_file() for place in inner) or (folder / name).exists():
                raise ModelError(
                    f"{MODULES} of the model puts a module where the checkpoint's own "
                    f"{PurePosixPath(name).parts[0]} is; save the model anew"
                )
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
        for name, content in self.documents.items():
            text = json.dumps(content, indent=2, ensure_ascii=False)
            (folder / name).write_text(text, encoding="utf-8")
        for name, tensors in self.tensors.items():
            save_file(dict(tensors), folder / name, metadata={"format": "pt"})
            give_usual_rights(folder / name)


class _Reading:
    """Reads the files of a model whose modules are all known."""

    def __init__(self, files: ModelFiles, modules: list[dict[str, Any]]) -> None:
        self._files = files
        self._modules = modules
        self._documents: dict[str, Any] = {}
        self._tensors: dict[str, dict[str, Tensor]] = {}

    def everything(self) -> PipelineFiles:
        encoder, *others = self._modules
        task = self._read_encoder(encoder)
        for module in others:
            self._read_module(_KINDS[str(module_kind(module))], str(module["path"]))
        main = self._take(MAIN_CONFIG, MAIN_CONFIG)
        kinds = tuple(str(module_kind(module)) for module in self._modules)
        self._documents[MODULES] = [_moved(encoder), *map(_entry, others)]
        if task not in _TASK_HEADS:
            return PipelineFiles(
                left_out=f"{MODULES} of model {self._files.name} takes the encoder for {task}, "
                f"which is not known here: it is left out"
            )
        return PipelineFiles(
            loader=_loader(main or {}, kinds),
            kinds=kinds,
            head=_TASK_HEADS[task],
            documents=self._documents,
            tensors=self._tensors,
        )

    def _read_encoder(self, module: Mapping[str, Any]) -> str:
        """Return the task that the encoder is loaded for; its settings go to the top folder."""
        prefix = f"{module['path']}/" if module["path"] else ""
        usual = "fill-mask" if module_kind(module) == "MLMTransformer" else "feature-extraction"
        for name in TRANSFORMER_CONFIGS:
            if found := self._take(prefix + name, name):
                found.pop("tokenizer_name_or_path", None)  # the tokenizer is in the checkpoint
                return str(found.get("transformer_task") or usual)
        return usual

    def _read_module(self, kind: _Kind, folder: str) -> None:
        config = f"{folder}/{kind.config}"
        if self._take(config, config) is None and kind.needs_config:
            raise self._lacks(config)
        if not kind.has_weights:
            return
        for name in WEIGHTS:
            _refuse_link(self._files, f"{folder}/{name}")
            if file := self._files.path(f"{folder}/{name}"):
                self._tensors[f"{folder}/{WEIGHTS[0]}"] = self._read_weights(file, folder)
                return
        raise self._lacks(f"{folder}/{WEIGHTS[0]}")

    def _read_weights(self, file: Path, folder: str) -> dict[str, Tensor]:
        if file.stat().st_size > _MOST_BYTES:
            raise ModelError(
                f"model {self._files.name!r}: {folder}/{file.name} is larger than any weights of "
                "a module; give a sound model"
            )
        weights = module_weights(self._files, file)
        return {name: t.contiguous().clone() for name, t in weights.items()}

    def _take(self, file: str, target: str) -> dict[str, Any] | None:
        """Add a JSON object to the copied files, and return it; None if there is none."""
        _refuse_link(self._files, file)
        found = self._files.json(file)
        if found is not None and not isinstance(found, dict):
            raise ModelError(
                f"model {self._files.name!r}: {file} is no JSON object; fetch the model again"
            )
        if found is not None:
            self._documents[target] = found
        return found

    def _lacks(self, file: str) -> ModelError:
        name = self._files.name
        if self._files.are_unknown(file):
            return ModelError(f"{file} of model {name!r} cannot be fetched: the Hub is unreachable")
        return ModelError(f"model {name!r}: {file} is missing; fetch the model again")


def _obstacle(files: ModelFiles, modules: list[dict[str, Any]]) -> str | None:
    """Return why a model's pipeline cannot be copied; None if it can."""
    for number, module in enumerate(modules):
        kind = module_kind(module)
        if kind is None:
            return f"names {module['type']}, which is code of its own and is never copied"
        if kind not in (_KINDS if number else ENCODER_KINDS):
            return f"names {module['type']} as its module {number}, which is not known here"
        path = str(module["path"])
        if (number or PurePosixPath(path).parts) and not _is_inside(path):
            raise ModelError(
                f"model {files.name!r} names a module outside of itself: {path[:100]!r}"
            )
    if not modules:
        return "names no module"
    own = str(modules[0]["path"])
    folder = expanded(files.name)
    if own and files.folder and Path(files.folder, own).resolve() != _encoder(folder, own):
        return f"is about another encoder, the one in {own}"
    return None


def _encoder(folder: Path, own: str) -> Path:
    """Return the folder from which a model's encoder is loaded."""
    inner = folder / own
    return (inner if (inner / CONFIG_FILE).is_file() else folder).resolve()


def _is_inside(path: str) -> bool:
    parts = PurePosixPath(path).parts
    is_plain = bool(parts) and not PurePosixPath(path).is_absolute() and "\\" not in path
    return is_plain and ".." not in parts and ":" not in path and "\0" not in path


def _entry(module: Mapping[str, Any]) -> dict[str, Any]:
    return {key: module[key] for key in ("idx", "name", "path", "type", "kwargs") if key in module}


def _moved(encoder: Mapping[str, Any]) -> dict[str, Any]:
    """Return the encoder's entry in ``modules.json``, its path changed to the top of the folder."""
    entry = _entry(encoder) | {"path": ""}
    if module_kind(encoder) not in _USUAL_NAMES:
        entry["type"] = _TRANSFORMER  # only old versions know classes named after families
    return entry


def _loader(main: Mapping[str, Any], kinds: tuple[str, ...]) -> str:
    said = main.get("model_type")
    usual = "SparseEncoder" if "SpladePooling" in kinds else SENTENCE
    return said if said in _LOADERS else usual


def _refuse_link(files: ModelFiles, file: str) -> None:
    """Refuse a file behind a link that leads out of the model: it may be private."""
    if files.folder is not None and leads_out(files.folder, file):
        raise ModelError(
            f"model {files.name!r}: {file} is a link that leads out of the model's folder; put "
            "the file itself there"
        )
