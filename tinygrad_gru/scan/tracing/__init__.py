"""Tracing: from the Python of a step to its graph IR, and the cache of traces."""
