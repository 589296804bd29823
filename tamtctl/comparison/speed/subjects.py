"""What is timed: a checkpoint in torch, or an ONNX graph in ONNX Runtime."""

from __future__ import annotations

import glob
import time
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from torch import nn

from tamtctl.foundations.errors import ModelError
from tamtctl.foundations.paths import expanded
from tamtctl.models.archives import compressed_size
from tamtctl.models.encoder import max_sequence_length
from tamtctl.models.files import ModelFiles, torch_weights, unused_weights
from tamtctl.models.heads import HEADS, MASKED_LM, NONE, HeadedModel, head_of_task
from tamtctl.models.loading import load_config, load_with_head
from tamtctl.models.onnx.encoder import skeleton_of
from tamtctl.models.onnx.session import OnnxModel, onnx_files
from tamtctl.models.timing import Run, run_of

TORCH = "torch"
# What a Trainer leaves beside a checkpoint.
_OF_TRAINING = ("optimizer*", "scheduler.pt", "scaler.pt", "rng_state*.pth", "training_args.bin")


@dataclass(frozen=True)
class Subject:
    """A model that is measured.

    Attributes:
        name: The model as the user named it.
        backend: ``torch``, or the name of the ONNX file.
        file: The ONNX file; None if torch loads the model by its name.
    """

    name: str
    backend: str
    file: Path | None = None

    def files(self) -> list[Path]:
        """Return the files that a user of it needs; empty if it is no local folder.

        In a folder with both, a graph leaves out torch's weights, and torch leaves out graphs,
        with the weights that lie beside them. Weights of other frameworks count for neither, nor
        does what a training or a version control leaves.
        """
        folder = ModelFiles.of(self.name).folder
        if folder is None:
            return []
        unused = unused_weights(folder)
        everything = [
            path
            for path in folder.rglob("*")
            if path.is_file() and path not in unused and not _is_beside(path.relative_to(folder))
        ]
        # A graph's weights, as model.onnx_data or model.onnx.data, begin with its name.
        of_graphs = {
            path: graph
            for graph in folder.rglob("*.onnx")
            for path in graph.parent.glob(f"{glob.escape(graph.name)}*")
        }
        if self.file is None:
            return [path for path in everything if path not in of_graphs]
        weights = torch_weights(folder)
        return [
            path
            for path in everything
            if path not in weights and of_graphs.get(path, self.file) == self.file
        ]

    @cached_property
    def head(self) -> str:
        """The head that it runs with, one of `HEADS`; it is loaded to find out."""
        if self.file is None:
            return HeadedModel.as_it_is(self.name).head
        if not any(name.endswith("logits") for name in OnnxModel(self.file).outputs):
            return NONE
        return head_of_task(load_config(self.name)) or MASKED_LM

    def load(self, threads: int, head: str | None = None) -> Run:
        """Load it, to be run on so many threads; for torch, the process sets their number.

        Args:
            threads: The number of threads.
            head: A head for torch other than its own, with random numbers where it has none.
        """
        if self.file is not None:
            return OnnxModel(self.file, threads)
        network, *_ = load_with_head(HEADS[head or self.head], self.name)
        return run_of(network)

    @cached_property
    def limits(self) -> tuple[int, int]:
        """The size of its vocabulary, and how many tokens a text may have."""
        skeleton = skeleton_of(load_config(self.name))
        table = skeleton.get_input_embeddings()
        assert isinstance(table, nn.Embedding)
        return table.num_embeddings, max_sequence_length(skeleton)


def _is_beside(path: Path) -> bool:
    """Return whether a file of a model's folder is hidden, or of the training that made it."""
    is_hidden = any(part.startswith(".") for part in path.parts)
    return is_hidden or any(path.match(pattern) for pattern in _OF_TRAINING)


def subjects_of(name: str) -> list[Subject]:
    """Return the subjects of a model: its checkpoint, and every ONNX graph.

    Raises:
        ModelError: There is neither.
    """
    folder = ModelFiles.of(name).folder
    if folder is None:
        if expanded(name).exists():
            raise ModelError(f"{name!r} is no folder; give the folder of a model")
        return [Subject(name, TORCH)]
    found = []
    graphs = onnx_files(folder)
    if torch_weights(folder) or not graphs:
        found.append(Subject(name, TORCH))
    return found + [Subject(name, file.name, file) for file in graphs]


def size_of(files: list[Path]) -> tuple[int, int]:
    """Return the bytes of files, and those after compression as by ``export --compress``."""
    return sum(file.stat().st_size for file in files), compressed_size(files)


def load_seconds(subject: Subject, threads: int, times: int = 3) -> float:
    """Return the median seconds of loading it, with its files in the disk cache."""
    seconds = []
    for _ in range(times):
        started = time.perf_counter()
        subject.load(threads)
        seconds.append(time.perf_counter() - started)
    return sorted(seconds)[times // 2]
