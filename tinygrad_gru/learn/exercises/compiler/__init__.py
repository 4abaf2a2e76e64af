"""Chapters 11 and 12: the compiler."""
