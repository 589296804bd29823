"""Exporting a checkpoint as an ONNX graph, which is compared with torch after writing."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from transformers import PreTrainedModel

from tamtctl.foundations.clearing import amount_in
from tamtctl.foundations.errors import ModelError
from tamtctl.foundations.folders import replacing
from tamtctl.foundations.paths import expanded
from tamtctl.models.encoder import maskable_matrices
from tamtctl.models.fewer_heads import without_idle_heads
from tamtctl.models.heads import HeadedModel
from tamtctl.models.loading import forget_code, load_tokenizer
from tamtctl.models.onnx.comparing import difference, run_in_torch
from tamtctl.models.onnx.graph import Called, called, write_graph
from tamtctl.models.onnx.quantising import INT8_FILE, quantise
from tamtctl.models.onnx.session import FOLDER, OnnxModel
from tamtctl.models.pipeline_files import PipelineFiles
from tamtctl.models.text_inputs import TextInputs
from tamtctl.models.vocabulary_files import copy_vocabulary
from tamtctl.ticket.exporting.card import copy_card
from tamtctl.ticket.exporting.result import Exported

FP32_FILE = "model.onnx"
_TOLERANCE = 1e-4  # of an fp32 output, as a share of the largest one if that is above 1
_TORCH_TOLERANCE = 1e-5  # the same, of outputs without heads that contribute nothing, in torch
_LONGEST_TEXT = 128


@dataclass(frozen=True, repr=False)
class OnnxExport(Exported):
    """The result of an export to ONNX.

    Attributes:
        path: The folder with configuration, tokenizer, modules of sentence-transformers, and graph.
        file: The file of the graph, relative to the folder.
        source: The ticket or checkpoint that it was made of.
        model_class: The class of transformers that was written.
        head: The name of its head.
        modules: The modules of sentence-transformers that it keeps; empty for other models.
        inputs: Names of the graph's inputs, each of shape (B, T) in int64.
        outputs: Names of its outputs.
        precision: ``fp32`` or ``int8``.
        quantised: How many products with a weight matrix are computed in int8.
        bytes: Size of the folder's files.
        parameters: Number of weights.
        zeros: How many weights of matrices are zero.
        largest_difference: The largest difference between the outputs of the graph in ONNX Runtime
            and of the model in torch, as a share of the largest output if that is above 1.
        relative_difference: Root mean square of the difference, as a share of that of the outputs.
        load: A line of Python that opens the graph.
        notes: Notes on the export, a line each.
        archive: The folder as one compressed file, if that was asked for.
    """

    file: str
    source: str
    model_class: str
    head: str
    modules: tuple[str, ...]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    precision: str
    quantised: int
    bytes: int
    parameters: int
    zeros: int
    largest_difference: float
    relative_difference: float
    load: str
    notes: tuple[str, ...]


def convert(
    checkpoint: Path,
    output_dir: Path | str,
    *,
    source: str,
    is_quantised: bool = False,
    notes: tuple[str, ...] = (),
) -> OnnxExport:
    """Write a checkpoint as an ONNX graph, at the place where sentence-transformers looks for it.

    Attention heads that contribute nothing, since their columns of the output matrix are zero, are
    left out; the graph is compared with the whole model.

    Args:
        checkpoint: A folder that transformers loads.
        output_dir: The folder to write; new or empty.
        source: The name of its source, for the result.
        is_quantised: Whether weights are stored and multiplied in 8 bits.
        notes: Notes to begin the result's notes with.

    Raises:
        ModelError: The checkpoint cannot be loaded or written as a graph, or the graph has other
            outputs.
        TicketError: The output folder is not empty, or cannot be written.
    """
    with replacing(output_dir) as new:  # raises before any work if it is not free
        base = HeadedModel.for_graph(str(checkpoint))
        tokenizer = load_tokenizer(str(checkpoint))
        inputs = TextInputs.of(base.network, tokenizer, usual=_LONGEST_TEXT)
        model = called(base.network, base.head, takes_types=inputs.takes_types)
        network, fewer = base.network, without_idle_heads(base.network)
        if fewer is not None:
            network, notes = fewer.network, (*notes, fewer.note)
        written = called(network, base.head, takes_types=inputs.takes_types)
        if fewer is not None:
            _check_fewer_heads(model, written)
        pipeline = PipelineFiles.of(str(checkpoint)).for_head(base.head)
        if forget_code(base.network, tokenizer):
            notes += ("the model's own Python code (auto_map) is left out",)
        base.network.config.save_pretrained(new)
        tokenizer.save_pretrained(new)
        copy_vocabulary(str(checkpoint), None, tokenizer, new)
        pipeline.write(new)
        copy_card(checkpoint, new)
        (new / FOLDER).mkdir(exist_ok=True)
        file = new / FOLDER / FP32_FILE
        write_graph(written, file)
        quantised = 0
        if is_quantised:
            file = file.with_name(INT8_FILE)
            quantised = quantise(file.with_name(FP32_FILE), file)
            file.with_name(FP32_FILE).unlink()
        found = difference(model, OnnxModel(file))
        _check(base.network, found.largest, float("inf") if is_quantised else _TOLERANCE)
        size = amount_in(new).bytes
    path = expanded(output_dir)
    matrices = maskable_matrices(network).values()
    return OnnxExport(
        path=path,
        file=f"{FOLDER}/{file.name}",
        source=source,
        model_class=type(base.network).__name__,
        head=base.head,
        modules=pipeline.kinds,
        inputs=model.inputs,
        outputs=model.outputs,
        precision="int8" if is_quantised else "fp32",
        quantised=quantised,
        bytes=size,
        parameters=sum(p.numel() for p in network.parameters()),
        zeros=sum(int((p == 0).sum()) for p in matrices),
        largest_difference=found.largest,
        relative_difference=found.relative,
        load=f"onnxruntime.InferenceSession({str(path / FOLDER / file.name)!r})",
        notes=notes + ((pipeline.left_out,) if pipeline.left_out else ()),
    )


def _check_fewer_heads(model: Called, written: Called) -> None:
    """Refuse a model that has other outputs without the heads that contribute nothing.

    Raises:
        ModelError: The outputs differ, or it cannot be run like this.
    """
    try:
        found = difference(model, run_in_torch(written)).largest
    except RuntimeError as error:  # of shapes that do not go together
        raise ModelError(
            f"{type(model.network).__name__} cannot be run with fewer attention heads; "
            "--format transformers keeps the pruned ones as zeros"
        ) from error
    _check(model.network, found, _TORCH_TOLERANCE)


def _check(network: PreTrainedModel, difference: float, tolerance: float) -> None:
    """Refuse a graph whose outputs are not those of the model.

    Raises:
        ModelError: They differ by more than the tolerance.
    """
    if not difference <= tolerance:  # a NaN fails the comparison
        raise ModelError(
            f"the ONNX graph of this {type(network).__name__} does not give what torch gives: they "
            f"differ by {difference:.2g}"
        )
