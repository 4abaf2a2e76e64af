"""The passes: each takes a program and returns an equivalent one that costs less, or plans its execution."""
