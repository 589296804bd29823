"""Models as ONNX graphs: writing, quantising, checking and running."""
