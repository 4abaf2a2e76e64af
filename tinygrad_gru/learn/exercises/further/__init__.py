"""Chapters 13 to 15: higher derivatives, tests, other frameworks."""
