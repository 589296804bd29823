"""Dynamic quantisation of an ONNX graph: weights in advance, activations while it runs, to 8 bits.

Weights use only 7 of the 8 bits. On processors without VNNI instructions, sums of products of 8-bit
numbers overflow 16 bits, and the same file would give other results there.
"""

from __future__ import annotations

import logging
from pathlib import Path

from tamtctl.foundations.errors import ModelError

INT8_FILE = "model_qint8_avx2.onnx"  # the name that sentence-transformers gives such files
_QUANTISED = frozenset({"MatMulInteger", "DynamicQuantizeMatMul", "ConvInteger"})


def quantise(source: Path, target: Path) -> int:
    """Write a graph with quantised weights; return the number of quantised matrix products.

    Raises:
        ModelError: The graph has no product with a matrix of weights.
    """
    import onnx
    from onnxruntime.quantization import QuantType, quantize_dynamic

    root = logging.getLogger()
    level, silent = root.level, logging.NullHandler()
    root.addHandler(silent)  # else its first message would give the caller's program a handler
    root.setLevel(logging.ERROR)  # it would suggest a preprocessing that needs symbolic shapes
    try:
        quantize_dynamic(
            source,
            target,
            weight_type=QuantType.QInt8,
            per_channel=True,
            reduce_range=True,
            extra_options={"MatMulConstBOnly": True},
        )
    finally:
        root.setLevel(level)
        root.removeHandler(silent)
    nodes = onnx.load(str(target)).graph.node
    count = sum(node.op_type in _QUANTISED for node in nodes)
    if not count:
        raise ModelError(
            "--precision int8 finds nothing to quantise: the graph has no product with a matrix of "
            "weights"
        )
    return count
