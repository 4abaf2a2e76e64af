"""Modules of a line or two: activations, losses, and lists and dicts of modules, by PyTorch's names."""
