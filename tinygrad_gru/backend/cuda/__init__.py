"""All that is specific to CuPy and CUDA."""
