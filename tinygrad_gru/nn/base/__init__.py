"""What Module is made of besides its tree: PyTorch's names, replacement of attributes, loading of states, display."""
