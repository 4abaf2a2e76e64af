"""The ONNX exporter: a Module's formulas run on duck arrays that add the nodes of a graph."""
