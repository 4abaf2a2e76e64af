"""The ONNX importer: a graph's nodes as our ops and layers, in a Module."""
