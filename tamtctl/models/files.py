"""Single files of a model, in its folder or on the Hub, also those of sentence-transformers."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, cast

from tamtctl.foundations.errors import ModelError
from tamtctl.foundations.paths import expanded
from tamtctl.foundations.plain_files import leads_out, read_regular

CONFIG_FILE, TOKENIZER_FILE = "config.json", "tokenizer.json"
MODULES = "modules.json"  # lists the modules of a model of sentence-transformers
MAIN_CONFIG = "config_sentence_transformers.json"
TRANSFORMER_CONFIGS = (  # how texts are prepared; the first file that exists counts
    "sentence_bert_config.json",
    *(
        f"sentence_{family}_config.json"
        for family in ("roberta", "distilbert", "camembert", "albert", "xlm-roberta", "xlnet")
    ),
)

# Classes of modules with an encoder of transformers; the oldest are named after its family.
ENCODER_KINDS = frozenset(
    {
        "Transformer", "MLMTransformer", "BERT", "RoBERTa", "DistilBERT", "ALBERT", "CamemBERT",
        "XLMRoBERTa", "XLNet",
    }
)  # fmt: skip

_PACKAGE = "sentence_transformers"
_LONGEST_JSON = 2**20  # bytes
_TORCH_WEIGHTS = ("*.safetensors", "pytorch_model*.bin")
_OTHER_WEIGHTS = ("*.h5", "*.msgpack", "*.ot", "openvino_model*")


@dataclass(frozen=True)
class ModelFiles:
    """The files of a model.

    Attributes:
        name: The model's name, as the user gave it.
        folder: The folder of the files; None: they are on the Hub.
        revision: Branch, tag or commit on the Hub.
    """

    name: str
    folder: Path | None
    revision: str | None = None

    @classmethod
    def of(cls, name: str, revision: str | None = None) -> ModelFiles:
        """Find the files of ``nano``, a folder or a Hub id.

        An older model of sentence-transformers has its encoder in a subfolder, and the files that
        describe it in the folder above. ``name`` may be either of the two folders.
        """
        folder = nano_path() if name == "nano" else expanded(name)
        if not folder.is_dir():
            return cls(name, None, revision)
        above = folder.absolute().parent
        if not (folder / MODULES).is_file() and encoder_folder(above) == folder.absolute():
            return cls(name, above)
        return cls(name, folder)

    def are_unknown(self, file: str) -> bool:
        """Return whether it is unknown if the model has a file, since the Hub cannot be reached."""
        if self.folder is not None:
            return False
        from huggingface_hub import try_to_load_from_cache

        if self.path(file) is not None:
            return False
        # The cache also records files that the Hub does not have.
        cached = try_to_load_from_cache(self.name, file, revision=self.revision)
        return cached is None

    def path(self, file: str) -> Path | None:
        """Return the path of a file; None if there is none."""
        parts = PurePosixPath(file)
        if parts.is_absolute() or ".." in parts.parts:
            raise ModelError(f"model {self.name!r} names a file outside of itself: {file!r}")
        if self.folder is not None:
            return path if (path := self.folder / file).is_file() else None
        from transformers.utils.hub import cached_file

        found = cached_file(
            self.name,
            file,
            revision=self.revision,
            _raise_exceptions_for_gated_repo=False,
            _raise_exceptions_for_missing_entries=False,
            _raise_exceptions_for_connection_errors=False,
        )
        return None if found is None else Path(found)

    def modules(self) -> list[dict[str, Any]] | None:
        """Return the entries of ``modules.json``; None if there is no such file.

        Raises:
            ModelError: The file is no list of modules.
        """
        if (modules := self.json(MODULES)) is None:
            return None
        is_list = isinstance(modules, list) and all(isinstance(m, dict) for m in modules)
        if not is_list or not all({"type", "path"} <= m.keys() for m in modules):
            raise ModelError(
                f"model {self.name!r}: {MODULES} does not list modules; fetch it again"
            )
        return cast(list[dict[str, Any]], modules)

    def module_folders(self) -> list[str]:
        """Return the folders below the model's own that ``modules.json`` names, sorted.

        Raises:
            ModelError: The file is no list of modules.
        """
        if self.folder is None:
            return []
        named = {str(module["path"]) for module in self.modules() or ()}
        return sorted(name for name in named if name and not leads_out(self.folder, name))

    def json(self, file: str) -> Any:
        """Return the content of a JSON file; None if there is no such file.

        Raises:
            ModelError: The file is not JSON.
        """
        if (path := self.path(file)) is None:
            return None
        try:
            return json.loads(read_regular(path, _LONGEST_JSON))
        except (OSError, ValueError, RecursionError) as error:
            raise ModelError(f"model {self.name!r}: cannot read {file} ({error})") from error


def torch_weights(folder: Path) -> set[Path]:
    """Return the weight files at the top of a model's folder that transformers loads."""
    return {path for pattern in _TORCH_WEIGHTS for path in folder.glob(pattern)}


def unused_weights(folder: Path) -> set[Path]:
    """Return weight files that transformers leaves alone, as there are better ones.

    Those are of other frameworks, where there are weights for torch, and pickled ones with
    safetensors in the same folder.
    """
    if not torch_weights(folder):
        return set()
    others = {path for pattern in _OTHER_WEIGHTS for path in folder.rglob(pattern)}
    pickled = folder.rglob("pytorch_model*.bin")
    return others | {path for path in pickled if list(path.parent.glob("*.safetensors"))}


def module_kind(module: Mapping[str, Any]) -> str | None:
    """Return the class name of a module of sentence-transformers; None for other packages."""
    package, _, kind = str(module["type"]).rpartition(".")
    return kind if package.split(".")[0] == _PACKAGE else None


def encoder_folder(folder: Path) -> Path | None:
    """Return the folder inside a model of sentence-transformers that holds its encoder.

    None if the encoder is at the top, where its ``config.json`` then names a ``model_type``. A
    ``config.json`` without one is that of the first versions of sentence-transformers, which wrote
    their version number into it.
    """
    try:
        name = _own_folder(json.loads(read_regular(folder / MODULES, _LONGEST_JSON)))
        if not name or leads_out(folder, name) or _is_encoder(folder):
            return None
    except (OSError, ValueError, RecursionError):
        return None
    return folder / name if _is_encoder(folder / name) else None


def _is_encoder(folder: Path) -> bool:
    try:
        config = json.loads(read_regular(folder / CONFIG_FILE, _LONGEST_JSON))
    except (OSError, ValueError, RecursionError):
        return False
    return isinstance(config, dict) and "model_type" in config


def encoder_on_hub(name: str) -> str | None:
    """Return the subfolder with the encoder of a model on the Hub; None if it has none."""
    try:
        return _own_folder(ModelFiles(name, None).json(MODULES))
    except Exception:  # the caller is about to raise another error, which must not be lost
        return None


def _own_folder(modules: Any) -> str | None:
    try:
        paths = [str(m["path"]) for m in modules if module_kind(m) in ENCODER_KINDS]
    except (KeyError, TypeError):
        return None
    return paths[0] or None if paths else None


def nano_path() -> Path:
    """Return the folder of the embedded model, ready for ``from_pretrained``.

    The weights are stored in float16; load them with ``dtype=torch.float32``.

    Example:
        >>> AutoModel.from_pretrained(tamtctl.nano_path(), dtype=torch.float32).config.hidden_size
        128
    """
    return Path(__file__).parent / "nano"


def folder_here(name: str, revision: str | None, file: str) -> Path | None:
    """Return the folder of a model on this machine; None if there is none.

    Args:
        name: ``nano``, a folder, or a Hub id, which is looked for in the Hub's cache.
        revision: Its commit, branch or tag on the Hub.
        file: A file that a folder in the cache must hold.
    """
    folder = nano_path() if name == "nano" else expanded(name)
    if os.path.isdir(folder):  # noqa: PTH112, Path.is_dir raises for a name that is too long
        return folder
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    try:
        found = try_to_load_from_cache(name, file, revision=revision or "main")
    except HFValidationError:
        return None
    return Path(found).parent if isinstance(found, str) else None
