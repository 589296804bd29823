"""An ONNX file of a stranger reads nothing outside its folder, and runs no operators of others."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from tamtctl.foundations.errors import ModelError, UsageError
from tamtctl.models.onnx.packages import TO_RUN, check_installed
from tamtctl.models.onnx.session import OnnxModel, onnx_files

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")
helper = onnx.helper
FLOAT, SIX = onnx.TensorProto.FLOAT, [2, 3]


def external(location: str, name: str = "w") -> Any:
    tensor = onnx.TensorProto(name=name, data_type=FLOAT, dims=SIX)
    tensor.data_location = onnx.TensorProto.EXTERNAL
    for key, value in (("location", location), ("offset", "0"), ("length", "24")):
        tensor.external_data.add(key=key, value=value)
    return tensor


def inside(name: str = "w") -> Any:
    return helper.make_tensor(name, FLOAT, SIX, [1.0] * 6)


def model(nodes: list[Any], initializers: list[Any] | None = None, **more: Any) -> Any:
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", FLOAT, SIX)],
        [helper.make_tensor_value_info("y", FLOAT, SIX)],
        initializers or [],
    )
    domains = {node.domain for node in nodes} - {""}
    imports = [helper.make_opsetid("", 17), *(helper.make_opsetid(d, 1) for d in domains)]
    return helper.make_model(graph, opset_imports=imports, ir_version=8, **more)


ADD = helper.make_node("Add", ["x", "w"], ["y"])
COPY = helper.make_node("Identity", ["x"], ["y"])


def in_an_attribute(location: str) -> Any:
    return model([helper.make_node("Constant", [], ["w"], value=external(location)), ADD])


def in_a_branch(location: str) -> Any:
    branch = helper.make_graph(
        [helper.make_node("Identity", ["w"], ["b"])],
        "branch",
        [],
        [helper.make_tensor_value_info("b", FLOAT, SIX)],
        [external(location)],
    )
    condition = helper.make_tensor("c", onnx.TensorProto.BOOL, [], [True])
    node = helper.make_node("If", ["c"], ["y"], then_branch=branch, else_branch=branch)
    return model([node], [condition])


def in_a_function(location: str) -> Any:
    constant = helper.make_node("Constant", [], ["w"], value=external(location))
    function = helper.make_function(
        "own", "F", ["x"], ["y"], [constant, ADD], [helper.make_opsetid("", 17)]
    )
    return model([helper.make_node("F", ["x"], ["y"], domain="own")], functions=[function])


def sparse(location: str) -> Any:
    values = external(location)
    indices = helper.make_tensor("i", onnx.TensorProto.INT64, [6], list(range(6)))
    found = model([ADD])
    found.graph.sparse_initializer.append(helper.make_sparse_tensor(values, indices, SIX))
    return found


@pytest.mark.parametrize(
    "make",
    [lambda at: model([ADD], [external(at)]), in_an_attribute, in_a_branch, in_a_function, sparse],
    ids=["initializer", "attribute", "branch", "function", "sparse"],
)
@pytest.mark.parametrize("way", ["up", "absolute", "link", "backslash", "nowhere"])
def test_weights_elsewhere_are_not_read(
    make: Callable[[str], Any], way: str, tmp_path: Path
) -> None:
    secret = tmp_path / "secret"
    secret.write_bytes(b"\0" * 24)
    folder = tmp_path / "model" / "onnx"
    folder.mkdir(parents=True)
    (folder / "link").symlink_to(secret)
    location = {
        "up": "../../secret", "absolute": str(secret), "link": "link", "nowhere": "",
        "backslash": "..\\..\\secret",
    }[way]  # fmt: skip
    onnx.save(make(location), folder / "model.onnx")
    with pytest.raises(ModelError, match="outside its own folder"):
        OnnxModel(folder / "model.onnx")


def test_a_file_that_is_a_link_is_not_followed(tmp_path: Path) -> None:
    onnx.save(model([COPY]), tmp_path / "elsewhere.onnx")
    (tmp_path / "model" / "onnx").mkdir(parents=True)
    (tmp_path / "model" / "onnx" / "model.onnx").symlink_to(tmp_path / "elsewhere.onnx")
    with pytest.raises(ModelError, match="leads out"):
        onnx_files(tmp_path / "model")


def test_weights_beside_the_file_are_read(tmp_path: Path) -> None:
    torch.arange(6.0).numpy().tofile(tmp_path / "weights.bin")
    onnx.save(model([ADD], [external("weights.bin")]), tmp_path / "model.onnx")
    (found,) = OnnxModel(tmp_path / "model.onnx", threads=1)({"x": torch.zeros(SIX)})
    assert found.flatten().tolist() == [0, 1, 2, 3, 4, 5]


@pytest.mark.parametrize(
    ("domain", "kind"), [("evil.org", "Run"), ("com.microsoft", "EPContext"), ("ai.onnx.x", "Add")]
)
def test_operators_of_others_are_not_run(domain: str, kind: str, tmp_path: Path) -> None:
    node = helper.make_node(kind, ["x"], ["y"], domain=domain)
    onnx.save(model([node]), tmp_path / "model.onnx")
    with pytest.raises(ModelError, match=f"{kind}.*not run"):
        OnnxModel(tmp_path / "model.onnx")


def test_functions_of_the_file_itself_are_run(tmp_path: Path) -> None:
    function = helper.make_function("own", "F", ["x"], ["y"], [COPY], [helper.make_opsetid("", 17)])
    node = helper.make_node("F", ["x"], ["y"], domain="own")
    onnx.save(model([node], functions=[function]), tmp_path / "model.onnx")
    (found,) = OnnxModel(tmp_path / "model.onnx", threads=1)({"x": torch.ones(SIX)})
    assert bool((found == 1).all())


@pytest.mark.parametrize("content", [b"", b"text", b"ORTM" + b"\0" * 64, b"\x08\x08"])
def test_what_is_no_onnx_file_is_refused(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(content)
    with pytest.raises(ModelError, match="no ONNX file"):
        OnnxModel(tmp_path / "model.onnx")


def test_what_cannot_be_run_is_one_line(tmp_path: Path) -> None:
    onnx.save(model([helper.make_node("NoSuchOperator", ["x"], ["y"])]), tmp_path / "model.onnx")
    with pytest.raises(ModelError, match="ONNX Runtime cannot run") as caught:
        OnnxModel(tmp_path / "model.onnx")
    assert "\n" not in str(caught.value)


def test_other_inputs_than_are_given_are_one_line(tmp_path: Path) -> None:
    onnx.save(model([COPY]), tmp_path / "model.onnx")
    opened = OnnxModel(tmp_path / "model.onnx")
    assert opened({"x": torch.ones(SIX), "y": torch.ones(1)})[0].shape == tuple(SIX)
    for given, said in (
        ({"input_ids": torch.ones(SIX)}, "takes 'x', and gets input_ids; export"),
        ({"x": torch.ones(SIX, dtype=torch.int64)}, "ONNX Runtime cannot run"),
    ):
        with pytest.raises(ModelError, match=said) as caught:
            opened(given)
        assert "\n" not in str(caught.value)


def test_a_missing_package_is_named_with_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UsageError, match=r"onnx and onnxruntime: pip install 'tamtctl\[onnx\]'"):
        check_installed(TO_RUN, "this")
