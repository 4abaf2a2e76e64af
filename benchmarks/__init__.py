"""Measurements, each side by side with its peers in one run. `python -m benchmarks` runs all that need no peer."""
