"""Chapters 7 to 10: recurrent networks."""
