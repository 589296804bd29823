"""Exports of tickets of whole heads: a graph lacks the pruned ones, a checkpoint has zeros."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import tiny
import torch
from small_tickets import magnitude_ticket
from transformers import AutoModel, AutoTokenizer

from tamtctl.models.onnx.session import OnnxModel
from tamtctl.ticket.exporting.api import export
from tamtctl.ticket.exporting.onnx_graph import convert
from tamtctl.ticket.exporting.result import ExportResult
from tamtctl.ticket.ticket import Ticket

onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")
pytestmark = pytest.mark.usefixtures("working_folder")

TEXTS = ["the list of file names", "a", "name type set value data time"]
SLOW = pytest.mark.slow


@pytest.mark.parametrize(
    "family",
    ["bert", *(pytest.param(n, marks=SLOW) for n in ("albert", "mpnet", "modernbert", "electra"))],
)
def test_a_graph_lacks_the_heads_and_gives_what_the_masked_model_gives(family: str) -> None:
    model = tiny.save(Path("model"), family, with_head=False, num_attention_heads=4)
    ticket = magnitude_ticket(model, "heads:4")
    zeros = export(ticket, "zeros")
    done = export(ticket, "graph", format="onnx")
    layers = 1 if family == "albert" else 2
    assert f"{2 * layers} of {4 * layers} attention heads are left" in done.notes[0]
    assert len(done.notes) == 1
    assert done.zeros == 0
    assert done.parameters < zeros.parameters
    graph = onnx.load("graph/onnx/model.onnx").graph
    widths = {size for one in graph.initializer for size in one.dims if len(one.dims) == 2}
    assert 8 in widths  # two heads of four

    tokenizer = AutoTokenizer.from_pretrained("graph")
    batch = tokenizer(TEXTS, padding=True, return_tensors="np")
    session = onnxruntime.InferenceSession("graph/onnx/model.onnx")
    given = {one.name: batch[one.name] for one in session.get_inputs()}
    (states,) = session.run(None, given)
    masked = AutoModel.from_pretrained(model).eval()
    Ticket.load(ticket).apply(masked)
    with torch.no_grad():
        expected = masked(**{name: torch.from_numpy(one) for name, one in given.items()})[0]
    seen = batch["attention_mask"].astype(bool)
    assert np.abs(states - expected.numpy())[seen].max() < 1e-5


def test_a_checkpoint_says_that_it_has_zeros() -> None:
    model = tiny.save(Path("model"), "bert", with_head=False)
    ticket = magnitude_ticket(model, "heads:2")
    for format_ in (None, "transformers"):
        done = export(ticket, f"zeros-{format_}", format=format_)
        assert any("--format onnx leaves out what is pruned" in note for note in done.notes)
        assert isinstance(done, ExportResult)
        assert done.zeros == done.weights // 2
        assert json.loads((done.path / "config.json").read_text())["num_attention_heads"] == 2


@pytest.mark.slow
def test_a_checkpoint_with_zeros_is_written_without_its_heads() -> None:
    """As are recovered and fine-tuned ones, whose zeros are kept; also in 8 bits."""
    model = tiny.save(Path("model"), "bert", with_head=True)
    done = export(magnitude_ticket(model, "heads:2"), "zeros")
    found = convert(done.path, "graph", source="zeros")
    assert "2 of 4 attention heads are left" in found.notes[0]
    small = convert(done.path, "small", source="zeros", is_quantised=True)
    assert small.quantised
    assert OnnxModel(Path("small") / small.file).outputs == ("logits",)
