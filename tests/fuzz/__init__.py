"""Fuzzing of every reader of files: `python -m tests.fuzz --format pt --count 20000`."""
