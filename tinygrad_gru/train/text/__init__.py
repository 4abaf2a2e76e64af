"""Character-level language modelling: the model, its training by truncated BPTT, evaluation, and sampling."""
