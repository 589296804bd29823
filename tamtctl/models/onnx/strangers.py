"""Checking an ONNX file before it is run, since it may come from a stranger.

The runtime would read weights from any file that a tensor names, and run operators of any library
that the process has loaded. So the file is parsed first, without external data, and is refused if
it names a file outside its own folder, or an operator that belongs neither to ONNX nor to the
runtime.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from tamtctl.foundations.errors import ModelError
from tamtctl.foundations.plain_files import leads_out, read_regular
from tamtctl.foundations.untrusted import show

_MOST_BYTES = 2**31
# Domains of allowed operators: those of ONNX and of the runtime itself.
_DOMAINS = frozenset({"", "ai.onnx", "ai.onnx.ml", "com.microsoft"})
_READS_FILES = frozenset({"EPContext"})  # operators of the runtime that read files
_EXTERNAL = 1  # TensorProto.EXTERNAL


def read_checked(file: Path) -> bytes:
    """Return the content of an ONNX file that reads nothing outside its folder.

    Raises:
        ModelError: It is no ONNX file, names a file outside its folder, or has custom operators.
    """
    from onnx import ModelProto

    try:
        content = read_regular(file, _MOST_BYTES)
    except OSError as error:
        raise ModelError(f"cannot read {str(file)!r}: {error}") from error
    model = ModelProto()
    try:
        model.ParseFromString(content)
    except Exception as error:  # protobuf's error classes differ between versions
        raise ModelError(f"{str(file)!r} is no ONNX file") from error
    if not model.graph.node:
        raise ModelError(f"{str(file)!r} is no ONNX file: it has no operators")
    own = {(function.domain, function.name) for function in model.functions}
    for node in _nodes(model):
        if (node.domain, node.op_type) in own:
            continue
        if node.domain not in _DOMAINS or node.op_type in _READS_FILES:
            name = f"{node.domain}.{node.op_type}".lstrip(".")
            raise ModelError(
                f"{str(file)!r} has the operator {show(name)}, which is not one of ONNX: it is "
                "not run; get a file without custom operators"
            )
    for tensor in _tensors(model):
        _check_place(tensor, file)
    return content


def _check_place(tensor: Any, file: Path) -> None:
    """Refuse a tensor whose data lies outside the file's folder."""
    if tensor.data_location != _EXTERNAL and not tensor.external_data:
        return
    places = [entry.value for entry in tensor.external_data if entry.key == "location"]
    for place in places or [""]:
        parts = Path(place).parts
        is_inside = bool(parts) and not Path(place).is_absolute() and ".." not in parts
        if not is_inside or "\\" in place or leads_out(file.parent, place):
            raise ModelError(
                f"{str(file)!r} takes weights from {show(place)}, outside its own folder: it is "
                "not opened"
            )
        if not (file.parent / place).is_file():
            raise ModelError(f"{str(file)!r} takes weights from {show(place)}, which is not there")


def _graphs(model: Any) -> Iterator[Any]:
    """Yield every graph, those inside operators included, and the bodies of functions."""
    waiting = [model.graph, *model.functions]
    waiting += [g for info in model.training_info for g in (info.initialization, info.algorithm)]
    while waiting:
        graph = waiting.pop()
        yield graph
        for attribute in _attributes(graph):
            waiting += [*([attribute.g] if attribute.HasField("g") else []), *attribute.graphs]


def _nodes(model: Any) -> Iterator[Any]:
    for graph in _graphs(model):
        yield from graph.node


def _attributes(graph: Any) -> Iterator[Any]:
    for node in graph.node:
        yield from node.attribute
    yield from getattr(graph, "attribute_proto", ())  # default attributes of functions


def _tensors(model: Any) -> Iterator[Any]:
    """Yield every tensor that can hold data."""

    def sparse(tensors: Iterable[Any]) -> Iterator[Any]:
        for tensor in tensors:
            yield from (tensor.values, tensor.indices)

    for graph in _graphs(model):
        yield from getattr(graph, "initializer", ())
        yield from sparse(getattr(graph, "sparse_initializer", ()))
        for attribute in _attributes(graph):
            yield from (attribute.t, *attribute.tensors)
            yield from sparse((attribute.sparse_tensor, *attribute.sparse_tensors))
