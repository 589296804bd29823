"""Writing a model as an ONNX graph that takes any number of texts of any length.

The graph takes the tokenizer's ``input_ids``, ``attention_mask`` and, if the model distinguishes
two texts, ``token_type_ids``, all (B, T) in int64. It returns the outputs of the head: ``logits``,
``start_logits`` and ``end_logits``, or ``last_hidden_state`` (B, T, H).
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from tamtctl.foundations.errors import ModelError
from tamtctl.foundations.untrusted import reason
from tamtctl.models.heads import MASKED_LM, NONE

# Head → outputs of its graph, as transformers names them.
OUTPUTS = {
    MASKED_LM: ("logits",),
    NONE: ("last_hidden_state",),
    "sequence-classification": ("logits",),
    "token-classification": ("logits",),
    "question-answering": ("start_logits", "end_logits"),
}
_MOST_BYTES = 2**31  # limit of a protobuf
_EXAMPLE = (2, 7)  # not 1, which the exporter would take for a fixed size


class Called(nn.Module):
    """A model that is called like its graph, with tensors in a fixed order."""

    def __init__(self, network: PreTrainedModel, head: str, inputs: tuple[str, ...]) -> None:
        """Wrap a model.

        Args:
            network: The model, in eval mode.
            head: One of `OUTPUTS`.
            inputs: Names of its inputs, in order.
        """
        super().__init__()
        self.network, self.inputs, self.outputs = network, inputs, OUTPUTS[head]

    def forward(self, *values: Tensor) -> tuple[Tensor, ...]:
        """Return the outputs of the head."""
        given = dict(zip(self.inputs, values, strict=True))
        found = self.network(**given, return_dict=True)
        return tuple(found[name] for name in self.outputs)


def called(network: PreTrainedModel, head: str, *, takes_types: bool) -> Called:
    """Return a model in the form that can be written as a graph.

    Args:
        network: The model, in float32, on the CPU.
        head: The name of its head.
        takes_types: Whether it takes ``token_type_ids``.

    Raises:
        ModelError: The head is not supported, or the model is larger than 2 GB.
    """
    if head not in OUTPUTS:
        raise ModelError(
            f"--format onnx is not for the {head} head: its inputs are not texts side by side; "
            "give another --head"
        )
    if 4 * sum(p.numel() for p in network.parameters()) > _MOST_BYTES:
        raise ModelError(
            f"this {type(network).__name__} is larger than the 2 GB that one ONNX file may have"
        )
    types = ("token_type_ids",) if takes_types else ()
    return Called(network.eval(), head, ("input_ids", "attention_mask", *types))


def write_graph(model: Called, file: Path) -> None:
    """Write a model as an ONNX file, its weights inside.

    Args:
        model: What `called` returned.
        file: The file to write.

    Raises:
        ModelError: torch cannot write this architecture; the message names it.
    """
    ids = torch.arange(_EXAMPLE[0] * _EXAMPLE[1]).view(_EXAMPLE)
    examples = (ids % model.network.config.vocab_size, torch.ones_like(ids), torch.zeros_like(ids))
    sizes = {0: torch.export.Dim("batch"), 1: torch.export.Dim("length")}
    try:
        with torch.no_grad(), _silent():
            torch.onnx.export(
                model,
                examples[: len(model.inputs)],
                str(file),
                input_names=list(model.inputs),
                output_names=list(model.outputs),
                dynamic_shapes=(tuple(sizes for _ in model.inputs),),
                dynamo=True,
                external_data=False,
                verbose=False,
            )
    except Exception as error:  # torch's exporter raises anything
        kind = type(model.network).__name__
        raise ModelError(f"torch cannot write {kind} as an ONNX graph: {reason(error)}") from error
    _forget_makers(file)


def _forget_makers(file: Path) -> None:
    """Remove the source lines of operators, since they name folders of this machine."""
    import onnx

    model = onnx.load(str(file))
    del model.metadata_props[:]
    for part in (model.graph, *model.functions):
        told: list[Any] = [part, *part.node, *part.value_info]
        told += (
            [*part.input, *part.output, *part.initializer]
            if isinstance(part, onnx.GraphProto)
            else []
        )
        for one in told:
            one.doc_string = ""
            del one.metadata_props[:]
    onnx.save(model, str(file))


@contextmanager
def _silent() -> Iterator[None]:
    """Keep the exporter's notes, meant for its developers, off the screen."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
