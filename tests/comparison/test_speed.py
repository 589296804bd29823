"""Sizes and times of models, in turns with the dense one."""

from __future__ import annotations

import json
import shutil
import time
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
from torch import nn
from transformers import AutoModel, AutoModelForMaskedLM

from tamtctl.comparison.speed.api import bench
from tamtctl.comparison.speed.config import BenchConfig
from tamtctl.comparison.speed.subjects import size_of, subjects_of
from tamtctl.foundations.errors import ModelError, TamtctlError, UsageError
from tamtctl.models.timing import latency, timed_in_turns
from tamtctl.ticket.exporting.api import export

SMALL: dict[str, Any] = {"batch_sizes": (1, 3), "lengths": (8,), "threads": (1,), "rounds": 8}


def test_models_run_in_turns() -> None:
    calls: list[str] = []
    runs = [partial(calls.append, name) for name in "abc"]
    found = timed_in_turns(runs, 5, 1, lambda _: None)
    assert [len(seconds) for seconds in found] == [5, 5, 5]
    timed = calls[-15:]  # what warms up comes before
    rounds = [timed[i : i + 3] for i in range(0, 15, 3)]
    assert all(sorted(one) == ["a", "b", "c"] for one in rounds)
    assert len(set(map(tuple, rounds))) > 1


def test_a_ratio_is_taken_within_rounds() -> None:
    """A machine that gets slower and slower hits both alike."""
    drift = np.geomspace(1, 100, 30)
    found = latency(0.5 * drift, drift, 1)
    assert found.ratio is not None
    assert (found.ratio.value, found.ratio.low, found.ratio.high) == (0.5, 0.5, 0.5)
    assert found.spread > 1
    few = latency(drift[:4], drift[:4], 1).ratio
    assert few is not None
    assert few.low is None
    assert "too few" in (few.why_none or "")


def test_times_are_those_of_the_clock() -> None:
    slow, slower = timed_in_turns(
        [lambda: time.sleep(0.01), lambda: time.sleep(0.03)], 8, 1, lambda _: None
    )
    ratio = latency(slower, slow, 1).ratio
    assert ratio is not None
    assert 1.2 < ratio.value < 3.5


def test_a_size_is_that_of_the_files(tmp_path: Path) -> None:
    (tmp_path / "zeros").write_bytes(b"\0" * 100_000)
    (tmp_path / "noise").write_bytes(np.random.default_rng(0).bytes(1000))
    found, compressed = size_of(sorted(tmp_path.iterdir()))
    assert found == 101_000
    assert 1000 < compressed < 1200


def test_weights_of_other_frameworks_and_what_a_training_leaves_do_not_count(
    tiny_model: Path, tmp_path: Path
) -> None:
    copied = shutil.copytree(tiny_model, tmp_path / "copied")
    (before,) = subjects_of(str(copied))
    size = size_of(before.files())
    weights = ("pytorch_model.bin", "tf_model.h5", "openvino/openvino_model.bin")
    beside = ("optimizer.pt", "rng_state_0.pth", "training_args.bin", ".git/objects/pack")
    for name in (*weights, *beside):
        (copied / name).parent.mkdir(exist_ok=True, parents=True)
        (copied / name).write_bytes(bytes(1000))
    (after,) = subjects_of(str(copied))
    assert size_of(after.files()) == size
    (copied / "onnx").mkdir()
    for name in ("model.onnx", "model.onnx_data", "other.onnx"):
        (copied / "onnx" / name).write_bytes(bytes(100))
    torchs, graph, other = subjects_of(str(copied))
    assert size_of(torchs.files()) == size
    rest = size[0] - (copied / "model.safetensors").stat().st_size
    assert [size_of(one.files())[0] - rest for one in (graph, other)] == [200, 100]
    (copied / "2_Dense").mkdir()
    (copied / "2_Dense" / "pytorch_model.bin").write_bytes(bytes(1000))  # a module's only weights
    assert size_of(torchs.files())[0] == size[0] + 1000
    (copied / "model.safetensors").unlink()
    assert copied / "pytorch_model.bin" in torchs.files()
    assert copied / "tf_model.h5" not in torchs.files()


def test_models_are_compared_under_one_head(tiny_model: Path, tmp_path: Path) -> None:
    """A decoder over a large vocabulary is no gain of the model without it."""
    dense = tiny.save(tmp_path / "dense", "bert", vocab_size=20_000)
    bare = tmp_path / "bare"
    AutoModel.from_pretrained(dense).save_pretrained(bare)
    tiny.tokenizer().save_pretrained(bare)
    config = BenchConfig(
        folders=(str(bare),), against=str(dense), batch_sizes=(4,), lengths=(16,), threads=(1,),
        rounds=9,
    )  # fmt: skip
    runs: Counter[str] = Counter()

    def counted(module: nn.Module, given: object, found: object) -> None:
        runs["decoder"] += getattr(module, "out_features", 0) == 20_000
        runs["encoder"] += type(module).__name__ == "BertEncoder"

    hook = nn.modules.module.register_module_forward_hook(counted)
    try:
        found = bench(config)
    finally:
        hook.remove()
    assert runs["encoder"] == 3 * runs["decoder"] > 0  # each without a head, the dense one with it
    (size,) = found.sizes
    assert found.rows[1].latencies[size].ratio is not None
    assert f"{bare}: timed with no head, and so is the dense model for the ratio" in found.notes
    own = bench(BenchConfig(folders=(str(dense),), against=str(tiny_model), **SMALL))
    assert not [note for note in own.notes if "head" in note]


@pytest.fixture(scope="module")
def models(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    wide = tmp_path_factory.mktemp("wide") / "wide"
    return tiny_model, tiny.save(wide, "bert", intermediate_size=2000, num_hidden_layers=4)


@pytest.mark.renders
def test_two_models(
    models: tuple[Path, Path], text_file: Path, run: Callable[..., Any], tmp_path: Path
) -> None:
    dense, wide = models
    figure = tmp_path / "speed.svg"
    done = run(
        "bench", wide, "--against", dense, "--batch-sizes", "1,3", "--lengths", "8", "--threads",
        "1", "--rounds", "8", "--task", "mlm", "--corpus", text_file, "--blocks", 8, "--json",
        "--figure", figure,
    )  # fmt: skip
    assert done.code == 0, done.err
    assert figure.stat().st_size > 1000
    found = json.loads(done.out)
    first, second = found["models"]
    assert (first["name"], first["dense"]) == (str(dense), True)
    assert (second["name"], second["dense"]) == (str(wide), False)
    assert second["bytes"] > 5 * first["bytes"]
    assert second["compressed"] < second["bytes"]
    for model in (first, second):
        assert model["quality"]["mlm"]["score"] > 0
        assert {(one["batch"], one["length"]) for one in model["latencies"]} == {(1, 8), (3, 8)}
        for one in model["latencies"]:
            assert one["quarter"] <= one["median"] <= one["three_quarters"]
            assert one["tokens_per_second"] == pytest.approx(one["batch"] * 8 / one["median"])
    assert all(one["ratio"] is None for one in first["latencies"])
    assert all(one["ratio_low"] <= one["ratio"] <= one["ratio_high"] for one in second["latencies"])
    assert "× dense" in done.err
    assert "mlm: nats per masked token, on 8 of" in done.err
    assert "have no interval" not in done.err


def test_a_figure_that_cannot_be_drawn_costs_no_measurement(
    tiny_model: Path, text_file: Path, tmp_path: Path, run: Callable[..., Any]
) -> None:
    """What can be known before is; a quality that is missing leaves the result as it is."""
    one = ("bench", tiny_model, "--batch-sizes", "1", "--lengths", "8", "--rounds", "3", "--json")
    nowhere = run(*one, "--task", "mlm", "--figure", tmp_path / "none" / "x.png")
    assert nowhere.code == 2
    assert "there is no folder" in nowhere.err
    assert "no model" not in nowhere.err
    bare = tiny.save(tmp_path / "bare", "bert", with_head=False)
    headless = ("bench", bare, *one[2:], "--task", "mlm", "--corpus", text_file)
    no_quality = run(*headless, "--figure", tmp_path / "x.png")
    assert (no_quality.code, json.loads(no_quality.out)["models"][0]["quality"]) == (1, {})
    assert "no model has a mlm to draw" in no_quality.err
    no_dense = run(*one, "--task", "kd")
    assert (no_dense.code, no_dense.out) == (2, "")
    assert "how far a model is from the dense one; give that with --against" in no_dense.err


def test_a_graph_is_measured_too(models: tuple[Path, Path], tmp_path: Path) -> None:
    onnx = pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    helper, folder = onnx.helper, tiny.save(tmp_path / "graph", "bert", with_head=False)
    ids = helper.make_tensor_value_info("input_ids", onnx.TensorProto.INT64, ["b", "t"])
    out = helper.make_tensor_value_info("last_hidden_state", onnx.TensorProto.FLOAT, ["b", "t"])
    node = helper.make_node("Cast", ["input_ids"], ["last_hidden_state"], to=onnx.TensorProto.FLOAT)
    graph = helper.make_graph([node], "g", [ids], [out])
    (folder / "onnx").mkdir()
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(made, folder / "onnx" / "model.onnx")
    found = bench(BenchConfig(folders=(str(folder),), against=str(models[0]), **SMALL))
    dense, torchs, graphs = found.rows
    assert [row.backend for row in found.rows] == ["torch", "torch", "model.onnx"]
    for size in found.sizes:
        ratio = graphs.latencies[size].ratio
        assert ratio is not None
        assert ratio.value < 1
    assert (graphs.bytes or 0) < (torchs.bytes or 0)  # without the other's weights
    assert dense.is_dense


def test_losses_of_other_tokens_are_not_compared(
    tiny_model: Path, text_file: Path, tmp_path: Path
) -> None:
    fewer = tiny.save(tmp_path / "fewer", "bert")
    model = AutoModelForMaskedLM.from_pretrained(fewer)
    model.resize_token_embeddings(70)
    model.save_pretrained(fewer)
    same = tiny.save(tmp_path / "same", "bert", seed=3)
    tasks: dict[str, Any] = {"tasks": ("mlm",), "corpus": (str(text_file),), "blocks": 8}
    folders = (str(fewer), str(same))
    found = bench(BenchConfig(folders=folders, against=str(tiny_model), **SMALL, **tasks))
    dense, trimmed, other = found.rows
    assert set(dense.quality) == set(other.quality) == {"mlm"}
    assert not trimmed.quality
    words = f"has 70 tokens, the dense one's {len(tiny.VOCABULARY)}"
    assert words in trimmed.without_quality["mlm"]
    (note,) = (note for note in found.notes if words in note)
    assert note.startswith(f"{fewer}: its vocabulary")


def test_of_a_graph_only_embeddings_are_measured(tiny_model: Path, tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    export(tiny_model, tmp_path / "graph", format="onnx")
    tasks: dict[str, Any] = {"tasks": ("sst2",), "data_dir": str(tmp_path)}
    found = bench(
        BenchConfig(folders=(str(tmp_path / "graph"),), against=str(tiny_model), **SMALL, **tasks)
    )
    assert "only embeddings are measured of a graph" in found.rows[1].without_quality["sst2"]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"folders": ()}, "at least one folder"),
        ({"rounds": 1}, "rounds"),
        ({"lengths": (8, 8)}, "twice"),
        ({"tasks": ("no-such",)}, "no-such"),
        ({"tasks": ("retrieval",)}, "--task retrieval needs --queries, too"),
        ({"queries": "q.jsonl"}, "--queries is for the task retrieval; add --task retrieval"),
    ],
)
def test_requests_that_are_refused(options: dict[str, Any], said: str, tiny_model: Path) -> None:
    with pytest.raises(UsageError, match=said):
        bench(BenchConfig(**({"folders": (str(tiny_model),)} | SMALL | options)))


def test_what_cannot_be_measured_is_one_line(tiny_model: Path, tmp_path: Path) -> None:
    def refused(kind: type[Exception], said: str, folder: str, **options: Any) -> None:
        with pytest.raises(kind, match=said):
            bench(BenchConfig(folders=(folder,), **(SMALL | options)))

    (tmp_path / "empty").mkdir()
    refused(ModelError, "config.json", str(tmp_path / "empty"))
    nowhere = {"tasks": ("stsb-zero-shot",), "data_dir": str(tmp_path / "nowhere")}
    refused(TamtctlError, "nowhere", str(tiny_model), **nowhere)
    refused(UsageError, "is a ticket; export it first", "nano-0.7")
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "identity.json").write_text("{}")
    refused(UsageError, "is a run; give the folder of a model", str(tmp_path / "run"))
    refused(UsageError, "--lengths 500 is more", str(tiny_model), lengths=(500,))
    refused(UsageError, "--against dense takes a checkpoint", str(tiny_model), against="dense")


def test_a_model_under_two_names_is_measured_once_and_the_dense_one_first(
    tiny_model: Path, tmp_path: Path
) -> None:
    other = tiny.save(tmp_path / "other", "bert", seed=3)
    again = f"{tiny_model.parent}/./{tiny_model.name}/"
    config = BenchConfig(folders=(str(other), again), against=str(tiny_model), **SMALL)
    assert [row.name for row in bench(config).rows] == [str(tiny_model), str(other)]
