"""The job on text: a character model, its training by truncated backpropagation through time, evaluation, sampling."""
