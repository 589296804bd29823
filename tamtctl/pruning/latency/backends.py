"""What runs the models whose latency is measured: torch, or ONNX Runtime."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import cast

from torch import nn
from transformers import PreTrainedModel

from tamtctl.models.heads import HeadedModel
from tamtctl.models.onnx.graph import called, write_graph
from tamtctl.models.onnx.packages import TO_WRITE, check_installed
from tamtctl.models.onnx.session import OnnxModel, onnx_files
from tamtctl.models.sizes import Size
from tamtctl.models.timing import Run, run_of
from tamtctl.pruning.latency.settings import ONNX
from tamtctl.ticket.exporting.api import ONNX as ONNX_FORMAT


def check_backend(backend: str) -> None:
    """Refuse a backend whose packages are missing.

    Raises:
        UsageError: A package is missing.
    """
    if backend == ONNX:
        check_installed(TO_WRITE, f"--latency-backend {ONNX}")


def format_of(backend: str) -> str | None:
    """Return the format of an export that a backend runs; None: that of the base model."""
    return ONNX_FORMAT if backend == ONNX else None


def loaded_for(model: str, backend: str) -> HeadedModel:
    """Return a model with the head that an export of it for a backend runs with.

    Args:
        model: Folder or Hub id.
        backend: What runs it.
    """
    return HeadedModel.for_graph(model) if backend == ONNX else HeadedModel.as_it_is(model)


def opened(folder: Path, size: Size, backend: str) -> Run:
    """Return what runs an exported model.

    Args:
        folder: The folder of the export.
        size: The number of threads of ONNX Runtime; those of torch are the process's.
        backend: What runs it.
    """
    if backend == ONNX:
        (file,) = onnx_files(folder)
        return OnnxModel(file, size.threads)
    return run_of(cast(nn.Module, HeadedModel.as_it_is(str(folder)).network))


def run_with(network: PreTrainedModel, head: str, size: Size, backend: str) -> Run:
    """Return what runs a model in memory.

    Args:
        network: The model.
        head: Its head, a name in `tamtctl.models.heads.HEADS`.
        size: The number of threads of ONNX Runtime.
        backend: What runs it.

    Raises:
        ModelError: The model cannot be written as a graph.
    """
    if backend != ONNX:
        return run_of(cast(nn.Module, network))
    with TemporaryDirectory() as folder:
        file = Path(folder) / "model.onnx"
        write_graph(called(network, head, takes_types=False), file)
        return OnnxModel(file, size.threads)
