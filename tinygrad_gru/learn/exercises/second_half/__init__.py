"""Exercises 20 to 40: chapters 8 to 15."""

from . import chapter_8, chapter_8_cell, chapter_9, chapter_10, chapter_10_batches  # isort: split

from . import chapter_11, chapter_12, chapter_13, chapter_14, chapter_15

CHAPTERS = (
    *(chapter_8, chapter_8_cell, chapter_9, chapter_10, chapter_10_batches),
    *(chapter_11, chapter_12, chapter_13, chapter_14, chapter_15),
)
