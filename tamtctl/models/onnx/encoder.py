"""An ONNX graph in place of a model that embeds texts, so that it is measured like one."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import cast

import torch
from torch import Tensor, nn
from transformers import AutoModel, PreTrainedConfig, PreTrainedModel

from tamtctl.foundations.errors import ModelError
from tamtctl.models.encoder import Encoder
from tamtctl.models.files import ModelFiles, torch_weights
from tamtctl.models.heads import NONE
from tamtctl.models.loading import load_config, load_tokenizer
from tamtctl.models.onnx.graph import OUTPUTS
from tamtctl.models.onnx.session import OnnxModel, onnx_files


class GraphModel(nn.Module):
    """An ONNX graph that is called like an encoder of transformers; it has no parameters."""

    def __init__(self, name: str, graph: OnnxModel) -> None:
        """Wrap a graph.

        Args:
            name: The model's folder, with the encoder's configuration.
            graph: The graph, which returns the last hidden states.
        """
        super().__init__()
        self.config = load_config(name)
        self._graph = graph
        self._skeleton = (skeleton_of(self.config),)  # in a tuple: no submodule

    @property
    def base_model(self) -> PreTrainedModel:
        """The encoder on the meta device: layers and shapes, without values."""
        return self._skeleton[0]

    def get_input_embeddings(self) -> nn.Module:
        """Return the word embeddings, which have a shape but no values."""
        return self.base_model.get_input_embeddings()

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor,
        token_type_ids: Tensor | None = None,
        return_dict: bool = True,
    ) -> SimpleNamespace:
        """Return the last hidden states, (B, T, H); all inputs are (B, T)."""
        types = torch.zeros_like(input_ids) if token_type_ids is None else token_type_ids
        values = {
            "input_ids": input_ids,
            "attention_mask": attention_mask,
            "token_type_ids": types,
        }
        (states,) = self._graph({name: tensor.cpu() for name, tensor in values.items()})
        return SimpleNamespace(last_hidden_state=states.to(input_ids.device))


def skeleton_of(config: PreTrainedConfig) -> PreTrainedModel:
    """Return the encoder of a configuration on the meta device: shapes without values."""
    with torch.device("meta"):
        return cast(PreTrainedModel, AutoModel.from_config(config, trust_remote_code=False))


def find_graph(name: str) -> Path | None:
    """Return the ONNX file of a folder without torch weights; None for any other model.

    Raises:
        ModelError: The folder has several ONNX files.
    """
    folder = ModelFiles.of(name).folder
    if folder is None or torch_weights(folder):
        return None
    files = onnx_files(folder)
    if len(files) > 1:
        raise ModelError(f"{name!r} holds {len(files)} ONNX files; keep the one that is meant")
    return files[0] if files else None


def load_graph(name: str, file: Path, threads: int | None = None) -> Encoder:
    """Return an ONNX graph as an encoder that embeds texts.

    Raises:
        ModelError: The graph returns no hidden states, or cannot be run.
    """
    graph = OnnxModel(file, threads)
    if graph.outputs != OUTPUTS[NONE]:
        raise ModelError(
            f"the graph {str(file)!r} gives {', '.join(graph.outputs)}: embeddings are made of "
            f"{OUTPUTS[NONE][0]}"
        )
    model = cast(PreTrainedModel, GraphModel(name, graph).eval())
    return Encoder(name, None, model, load_tokenizer(name), {}, {})
