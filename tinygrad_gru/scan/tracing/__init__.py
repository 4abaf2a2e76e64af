"""From the Python of a step to its graph: tracing, and the cache of traces."""
