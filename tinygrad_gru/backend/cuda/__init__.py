"""CuPy and CUDA: the backend, kernels and graphs, cuBLAS, random numbers, deferred index checks."""
