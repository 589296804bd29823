"""Tickets and checkpoints as ONNX graphs: plain ONNX Runtime gives what torch gives."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import processes
import pytest
import tiny
import torch
from sentence_models import sentence_model, with_modules
from transformers import AutoModel, AutoModelForSequenceClassification, AutoTokenizer

import tamtctl
from tamtctl.foundations.errors import ModelError, UsageError
from tamtctl.models.onnx.graph import called, write_graph
from tamtctl.models.onnx.quantising import quantise
from tamtctl.models.onnx.session import OnnxModel
from tamtctl.pruning.config import SearchConfig
from tamtctl.pruning.searching.api import search
from tamtctl.ticket.exporting.api import export
from tamtctl.ticket.exporting.onnx_graph import convert

onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")

TEXTS = ["the list of file names", "a", "", "name type set value data time"]


@pytest.fixture(scope="module")
def ticket(text_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A ticket of a tiny sentence encoder."""
    folder = tmp_path_factory.mktemp("sentences")
    model = sentence_model(folder / "model", {"pooling_mode_mean_tokens": True})
    config = SearchConfig.from_recipe(
        "nano", model=str(model), corpus=(str(text_file),), method="magnitude", objective="kd",
        sparsity=0.5, sequence_length=16, evaluation_blocks=8, device="cpu",
    )  # fmt: skip
    return search(config, output_dir=folder / "run").ticket


@pytest.fixture(scope="module")
def checkpoint(ticket: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tamtctl.export(ticket, tmp_path_factory.mktemp("plain") / "model").path


@pytest.fixture(scope="module")
def exported(ticket: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    return export(ticket, tmp_path_factory.mktemp("graph") / "model", format="onnx")


def run_plainly(file: Path, folder: Path) -> tuple[dict[str, Any], Any]:
    """Run a graph as anybody would: tokenizer, session, nothing else."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    batch = tokenizer(TEXTS, padding=True, return_tensors="np")
    session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    names = [one.name for one in session.get_inputs()]
    (states,) = session.run(None, {name: batch[name] for name in names})
    return dict(batch), torch.from_numpy(states)


def test_a_graph_gives_what_the_masked_model_gives(exported: Any, checkpoint: Path) -> None:
    file = exported.path / "onnx" / "model.onnx"
    batch, states = run_plainly(file, exported.path)
    model = AutoModel.from_pretrained(checkpoint, dtype=torch.float32).eval()
    inputs = {name: torch.from_numpy(values) for name, values in batch.items()}
    with torch.no_grad():
        wanted = model(**inputs).last_hidden_state
    seen = inputs["attention_mask"].bool()
    assert float((states - wanted)[seen].abs().max()) < 1e-4
    assert exported.largest_difference < 1e-4
    assert exported.zeros > 0.4 * exported.parameters


def test_a_folder_is_what_sentence_transformers_looks_for(exported: Any, ticket: Path) -> None:
    files = {str(p.relative_to(exported.path)) for p in exported.path.rglob("*") if p.is_file()}
    assert {"modules.json", "1_Pooling/config.json", "config.json", "onnx/model.onnx"} <= files
    assert not {file for file in files if file.endswith((".safetensors", ".bin"))}
    assert exported.modules == ("Transformer", "Pooling")
    content = (exported.path / "onnx" / "model.onnx").read_bytes()
    assert str(Path(tamtctl.__file__).parent).encode() not in content  # where it was written


def test_int8_is_nearly_the_same(exported: Any, tmp_path: Path) -> None:
    script = """
import logging, sys
from tamtctl.models.onnx.quantising import quantise
from pathlib import Path
print(quantise(*map(Path, sys.argv[1:])), logging.getLogger().handlers)
"""
    files = [str(exported.path / exported.file), str(tmp_path / "int8.onnx")]
    done = processes.run_script(script, *files, environment=os.environ)
    assert done.stdout == "12 []\n", done.stderr  # a handler would stop a later basicConfig
    (before, after) = (
        run_plainly(file, exported.path)[1]
        for file in (exported.path / exported.file, tmp_path / "int8.onnx")
    )
    cosine = torch.nn.functional.cosine_similarity(before, after, dim=-1)
    assert 0.95 < float(cosine.min()) < 1


def test_int8_takes_a_quarter_of_the_room(tmp_path: Path) -> None:
    helper, size = onnx.helper, 256
    weight = torch.randn(size, size, generator=torch.Generator().manual_seed(0)) / size**0.5
    values = helper.make_tensor(
        "w", onnx.TensorProto.FLOAT, [size, size], weight.flatten().tolist()
    )
    value = [helper.make_tensor_value_info(n, onnx.TensorProto.FLOAT, [4, size]) for n in "xy"]
    node = helper.make_node("MatMul", ["x", "w"], ["y"])
    graph = helper.make_graph([node], "g", value[:1], value[1:], [values])
    imports = [helper.make_opsetid("", 17)]
    onnx.save(helper.make_model(graph, opset_imports=imports, ir_version=8), tmp_path / "a.onnx")
    assert quantise(tmp_path / "a.onnx", tmp_path / "b.onnx") == 1
    sizes = [(tmp_path / name).stat().st_size for name in ("a.onnx", "b.onnx")]
    assert sizes[1] < 0.3 * sizes[0]
    x = torch.randn(4, size, generator=torch.Generator().manual_seed(1))
    (found,) = OnnxModel(tmp_path / "b.onnx", threads=1)({"x": x})
    wanted = x @ weight
    assert float((found - wanted).norm() / wanted.norm()) < 0.03


def test_what_has_no_product_cannot_be_quantised(tmp_path: Path) -> None:
    helper = onnx.helper
    value = [helper.make_tensor_value_info(n, onnx.TensorProto.FLOAT, [2, 2]) for n in "xy"]
    node = helper.make_node("Relu", ["x"], ["y"])
    graph = helper.make_graph([node], "g", value[:1], value[1:])
    imports = [helper.make_opsetid("", 17)]
    onnx.save(helper.make_model(graph, opset_imports=imports, ir_version=8), tmp_path / "a.onnx")
    with pytest.raises(ModelError, match="nothing to quantise"):
        quantise(tmp_path / "a.onnx", tmp_path / "b.onnx")


@pytest.mark.parametrize("format_", ["transformers", "sentence-transformers"])
def test_formats_of_a_checkpoint(format_: str, ticket: Path, tmp_path: Path) -> None:
    found = export(ticket, tmp_path / "model", format=format_).path
    assert (found / "modules.json").exists() == (format_ == "sentence-transformers")
    AutoModel.from_pretrained(found)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"format": "tflite"}, "format must be one of"),
        ({"precision": "int8"}, "--precision int8 is for --format onnx"),
        ({"format": "onnx", "precision": "fp16"}, "precision must be one of"),
        ({"format": "sentence-transformers"}, "no modules.json"),
        ({"format": "onnx", "head": "sequence-classification"}, "would be random"),
        ({"format": "onnx", "head": "multiple-choice"}, "random|multiple-choice"),
    ],
)
def test_requests_that_are_refused(options: dict[str, Any], said: str, tmp_path: Path) -> None:
    with pytest.raises((UsageError, ModelError), match=said):
        export("nano-0.9", tmp_path / "model", **options)
    assert not (tmp_path / "model").exists()


def test_a_checkpoint_is_no_ticket(
    checkpoint: Path, run: Callable[..., Any], tmp_path: Path
) -> None:
    done = run("export", checkpoint, "--output-dir", tmp_path / "a")
    assert (done.code, done.err.count("\n")) == (2, 1)
    assert "is a checkpoint already; --format onnx" in done.err
    done = run("export", checkpoint, "--output-dir", tmp_path / "a", "--format", "onnx",
               "--head", "none")  # fmt: skip
    assert done.code == 2
    assert "with a head of its own" in done.err


def test_a_run_is_no_checkpoint(ticket: Path, run: Callable[..., Any], tmp_path: Path) -> None:
    """Its own config.json is not a model's."""
    folder = tmp_path / "run"
    folder.mkdir()
    for name in ("config.json", "identity.json"):
        (folder / name).write_text("{}")
    words = ["export", folder, "--output-dir", tmp_path / "a"]
    assert "is a run without a ticket; give that of another" in run(*words).err
    (folder / "model").mkdir()  # as of a recovery
    assert f"is a run without a ticket; its model is '{folder / 'model'}'" in run(*words).err
    shutil.copytree(ticket, folder / "ticket")
    done = run(*words)
    assert (done.code, done.err.count("\n")) == (1, 1)
    assert f"is a run; its ticket is '{folder / 'ticket'}'" in done.err


def test_an_architecture_that_torch_cannot_write_is_named(tmp_path: Path) -> None:
    class Odd(torch.nn.Module):
        config = tiny.build("distilbert").config

        def forward(self, input_ids: Any, attention_mask: Any, return_dict: bool) -> Any:
            raise NotImplementedError("this cannot be traced")

    with pytest.raises(ModelError, match="torch cannot write Odd as an ONNX graph"):
        write_graph(called(Odd(), "none", takes_types=False), tmp_path / "model.onnx")  # type: ignore[arg-type]


@pytest.mark.slow
@pytest.mark.parametrize("with_head", [True, False])
@pytest.mark.parametrize("family", tiny.FAMILIES)
def test_every_family(family: str, with_head: bool, tmp_path: Path) -> None:
    folder = tiny.save(tmp_path / "model", family, with_head=with_head)
    found = convert(folder, tmp_path / "fp32", source=family)
    assert found.largest_difference < 1e-4
    quantised = convert(folder, tmp_path / "int8", source=family, is_quantised=True)
    assert quantised.quantised
    assert quantised.relative_difference < 0.2


@pytest.mark.slow
def test_a_classifier(tmp_path: Path) -> None:
    model = AutoModelForSequenceClassification.from_config(tiny.build("bert").config)
    model.save_pretrained(tmp_path / "model")
    tiny.tokenizer().save_pretrained(tmp_path / "model")
    found = convert(tmp_path / "model", tmp_path / "graph", source="model")
    assert (found.head, found.outputs) == ("sequence-classification", ("logits",))


def test_a_sentence_encoder_with_a_masked_lm_head_has_a_graph_of_embeddings(
    tmp_path: Path,
) -> None:
    pooling = {"word_embedding_dimension": 16, "pooling_mode_mean_tokens": True}
    model = with_modules(tiny.save(tmp_path / "model", "bert"), pooling)
    found = convert(model, tmp_path / "graph", source="model")
    assert (found.head, found.outputs) == ("none", ("last_hidden_state",))
    assert found.modules == ("Transformer", "Pooling")
