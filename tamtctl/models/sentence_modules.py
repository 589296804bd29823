"""The modules after the pooling of a sentence-transformers model: dense layers, normalisation."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch.nn.functional as F  # noqa: N812, the field's own name for it
from torch import Tensor, nn

from tamtctl.foundations.errors import ModelError, TicketError
from tamtctl.models.checkpoint_files import read_tensors
from tamtctl.models.files import ModelFiles
from tamtctl.models.fingerprints import sha256_of_array

SENTENCE_EMBEDDING = "sentence_embedding"
WEIGHTS = ("model.safetensors", "pytorch_model.bin")  # of a module; the first that exists counts
_ACTIVATIONS = {
    kind.__name__: kind
    for kind in (nn.Identity, nn.Tanh, nn.ReLU, nn.GELU, nn.Sigmoid, nn.SiLU, nn.ELU, nn.Mish)
}


@dataclass(frozen=True)
class Step:
    """A module after the pooling.

    Attributes:
        words: A description for people.
        apply: Maps embeddings of shape (n, H) to embeddings of shape (n, H').
        digest: Hex digest of its weights and settings; empty if it has none.
    """

    words: str
    apply: Callable[[Tensor], Tensor]
    digest: str = ""


def module_weights(files: ModelFiles, file: Path) -> dict[str, Tensor]:
    """Return name → tensor of a file of a module's weights.

    Raises:
        ModelError: The file cannot be read without running code, or holds no named tensors.
    """
    try:
        return read_tensors(file)
    except TicketError as error:
        raise ModelError(f"model {files.name!r}: {error}") from error


def module_settings(files: ModelFiles, file: str, default: Any = None) -> dict[str, Any]:
    """Return the settings that a JSON file of a model holds.

    Args:
        files: The model's files.
        file: Name of the JSON file.
        default: The settings if there is no such file; None: the file must exist.

    Raises:
        ModelError: The file is missing, or no JSON object.
    """
    found = files.json(file)
    found = default if found is None else found
    if not isinstance(found, dict):
        state = "is no JSON object" if found is not None else "is missing"
        raise ModelError(f"model {files.name!r}: {file} {state}; fetch the model again")
    return found


def module_step(files: ModelFiles, kind: str, folder: str) -> Step:
    """Return a module after the pooling.

    Raises:
        ModelError: The module is not known here, or damaged.
    """
    values = module_settings(
        files, f"{folder}/config.json", default={} if kind == "Normalize" else None
    )
    for key in ("module_input_name", "module_output_name"):
        if values.get(key) not in (None, SENTENCE_EMBEDDING):
            raise ModelError(
                f"model {files.name!r}: {folder} works on {values[key]!r}, which is not known here"
            )
    if kind == "Normalize":
        return Step("normalised", lambda embeddings: F.normalize(embeddings, dim=1))
    if kind == "Dense":
        return _dense(files, folder, values)
    raise ModelError(f"model {files.name!r} has a second {kind} in {folder}; it cannot be used")


def _dense(files: ModelFiles, folder: str, values: Mapping[str, Any]) -> Step:
    path = str(values.get("activation_function", "torch.nn.modules.activation.Tanh"))
    package, _, kind = path.rpartition(".")
    if not package.startswith("torch.nn") or kind not in _ACTIVATIONS:
        raise ModelError(
            f"model {files.name!r}: the activation {path} of {folder} is not known here; known are "
            f"{', '.join(_ACTIVATIONS)} of torch.nn"
        )
    weights = _dense_weights(files, folder)
    names = {"linear.weight"} | ({"linear.bias"} if values.get("bias", True) else set())
    is_projected = "residual.weight" in weights
    if weights.keys() - {"residual.weight"} != names:
        raise ModelError(
            f"model {files.name!r}: the weights of {folder} are {', '.join(sorted(weights))}, not "
            f"{', '.join(sorted(names))}"
        )
    has_residual = bool(values.get("use_residual"))
    if not _fit(weights, adds_input=has_residual and not is_projected):
        shapes = ", ".join(f"{name} {tuple(t.shape)}" for name, t in sorted(weights.items()))
        raise ModelError(
            f"model {files.name!r}: the weights of {folder} do not fit each other: {shapes}"
        )
    activation = _ACTIVATIONS[kind]()

    def step(embeddings: Tensor) -> Tensor:
        if embeddings.shape[1] != (takes := weights["linear.weight"].shape[1]):
            raise ModelError(
                f"model {files.name!r}: {folder} takes embeddings of {takes} numbers, and gets "
                f"{embeddings.shape[1]}"
            )
        own = {name: weight.to(embeddings) for name, weight in weights.items()}
        found = F.linear(embeddings, own["linear.weight"], own.get("linear.bias"))
        out = cast(Tensor, activation(found))
        if not has_residual:
            return out
        past = F.linear(embeddings, own["residual.weight"]) if is_projected else embeddings
        return out + past

    size = "×".join(map(str, reversed(weights["linear.weight"].shape)))
    content = {name: sha256_of_array(weights[name].numpy()) for name in sorted(weights)}
    digest = hashlib.sha256(json.dumps([kind, has_residual, content]).encode()).hexdigest()
    return Step(f"a dense layer of {size}", step, digest)


def _fit(weights: Mapping[str, Tensor], *, adds_input: bool) -> bool:
    """Return whether the shapes of a dense layer's weights fit each other."""
    weight = weights["linear.weight"]
    bias, residual = weights.get("linear.bias"), weights.get("residual.weight", weight)
    return (
        weight.dim() == 2
        and (bias is None or bias.shape == weight.shape[:1])
        and residual.shape == weight.shape
        and (not adds_input or weight.shape[0] == weight.shape[1])
    )


def _dense_weights(files: ModelFiles, folder: str) -> dict[str, Tensor]:
    for name in WEIGHTS:
        if file := files.path(f"{folder}/{name}"):
            return {name: tensor.float() for name, tensor in module_weights(files, file).items()}
    raise ModelError(f"model {files.name!r} lacks the weights of {folder}; fetch it again")
