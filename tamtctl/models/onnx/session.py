"""Running an ONNX file by ONNX Runtime, on processors, after a look into it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tamtctl.foundations.errors import ModelError
from tamtctl.foundations.plain_files import leads_out
from tamtctl.models.onnx.packages import TO_RUN, check_installed
from tamtctl.models.onnx.strangers import read_checked

FOLDER = "onnx"  # in a model's folder, where sentence-transformers looks
_ERRORS_ONLY = 3


class OnnxModel:
    """An ONNX file that is ready to run.

    Attributes:
        file: Where it is.
        inputs: The names of what it takes.
        outputs: The names of what it gives.
    """

    def __init__(self, file: Path, threads: int | None = None) -> None:
        """Open a file.

        Args:
            file: The file; a stranger's is looked into first.
            threads: How many it runs on; by default all cores.

        Raises:
            ModelError: It is refused, or the runtime cannot run it.
            UsageError: The runtime is not installed.
        """
        check_installed(TO_RUN, f"an ONNX file ({file.name})")
        content = read_checked(file)
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.log_severity_level = _ERRORS_ONLY
        options.intra_op_num_threads = threads or 0
        options.inter_op_num_threads = 1
        # What was looked into is what is run: the file is not read again, its weights beside it.
        options.add_session_config_entry(
            "session.model_external_initializers_file_folder_path", str(file.parent.resolve())
        )
        try:
            self._session: Any = onnxruntime.InferenceSession(
                content, options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # of the runtime, each with a class of its own
            raise ModelError(
                f"ONNX Runtime cannot run {str(file)!r}: {' '.join(str(error).split())[:200]}"
            ) from error
        self.file = file
        self.inputs = tuple(one.name for one in self._session.get_inputs())
        self.outputs = tuple(one.name for one in self._session.get_outputs())

    def __call__(self, values: Mapping[str, Tensor]) -> tuple[Tensor, ...]:
        """Return the outputs for inputs of shape (B, T).

        Args:
            values: Name → tensor of everything in ``inputs``; others are left out.
        """
        given = {name: values[name].numpy() for name in self.inputs}
        return tuple(map(torch.from_numpy, self._session.run(None, given)))


def onnx_files(folder: Path) -> list[Path]:
    """Return the ONNX files of a model's folder, where sentence-transformers looks for them.

    Raises:
        ModelError: One is a link out of the folder.
    """
    files = sorted([*folder.glob(f"{FOLDER}/*.onnx"), *folder.glob("*.onnx")])
    for file in files:
        if leads_out(folder, str(file.relative_to(folder))):
            raise ModelError(f"{str(file)!r} is a link that leads out of its folder")
    return files
