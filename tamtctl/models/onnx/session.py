"""Running an ONNX file with ONNX Runtime on the CPU, after checking its content."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tamtctl.foundations.errors import ModelError
from tamtctl.foundations.plain_files import leads_out
from tamtctl.foundations.untrusted import reason, show
from tamtctl.models.onnx.packages import TO_RUN, check_installed
from tamtctl.models.onnx.strangers import read_checked

FOLDER = "onnx"  # subfolder of a model in which sentence-transformers looks for ONNX files
_ERRORS_ONLY = 3


class OnnxModel:
    """An ONNX file that is ready to run.

    Attributes:
        file: Its path.
        inputs: Names of its inputs.
        outputs: Names of its outputs.
    """

    def __init__(self, file: Path, threads: int | None = None) -> None:
        """Open a file.

        Args:
            file: The file, which is checked before it is run.
            threads: CPU threads to run on; by default all cores.

        Raises:
            ModelError: The check refuses the file, or the runtime cannot run it.
            UsageError: The runtime is not installed.
        """
        check_installed(TO_RUN, f"an ONNX file ({file.name})")
        content = read_checked(file)
        import onnxruntime

        self.file = file
        options = onnxruntime.SessionOptions()
        options.log_severity_level = _ERRORS_ONLY
        options.intra_op_num_threads = threads or 0
        options.inter_op_num_threads = 1
        # The checked bytes are run, without reading the file again; external weights lie beside it.
        options.add_session_config_entry(
            "session.model_external_initializers_file_folder_path", str(file.parent.resolve())
        )
        try:
            self._session: Any = onnxruntime.InferenceSession(
                content, options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # the runtime's errors have no common class
            raise self._cannot_run(error) from error
        self.inputs = tuple(one.name for one in self._session.get_inputs())
        self.outputs = tuple(one.name for one in self._session.get_outputs())

    def __call__(self, values: Mapping[str, Tensor]) -> tuple[Tensor, ...]:
        """Return the outputs, in the order of ``outputs``, for inputs of shape (B, T).

        Args:
            values: Name → tensor, of at least all ``inputs``; others are ignored.

        Raises:
            ModelError: The graph takes something else, as those of other exporters may.
        """
        if missing := sorted(set(self.inputs) - values.keys()):
            raise ModelError(
                f"{str(self.file)!r} takes {show(missing[0])}, and gets {', '.join(values)}; "
                "export the model again"
            )
        given = {name: values[name].numpy() for name in self.inputs}
        try:
            return tuple(map(torch.from_numpy, self._session.run(None, given)))
        except Exception as error:  # the runtime's errors have no common class
            raise self._cannot_run(error) from error

    def _cannot_run(self, error: Exception) -> ModelError:
        return ModelError(f"ONNX Runtime cannot run {str(self.file)!r}: {reason(error)}")


def onnx_files(folder: Path) -> list[Path]:
    """Return the ONNX files of a model's folder, at the top and in ``onnx``.

    Raises:
        ModelError: A file is a link that leads out of the folder.
    """
    files = sorted([*folder.glob(f"{FOLDER}/*.onnx"), *folder.glob("*.onnx")])
    for file in files:
        if leads_out(folder, str(file.relative_to(folder))):
            raise ModelError(f"{str(file)!r} is a link that leads out of its folder")
    return files
