"""Chapters 1 to 6: a gradient, from nothing."""
