"""Batches of text and of sequences, as NumPy arrays for any backend."""

from .arrays import ArrayBatch, ArrayBatches
from .corpus import Corpus, standard_library, text_corpus
from .ngrams import ngram_losses
from .padding import pad_sequence
from .sequences import SequenceBatch, SequenceBatches, StepBatch
from .splits import split, split_by_group, split_by_time
from .standardizer import Standardizer
from .streams import StreamBatches, TextStream, Window, shuffle_chunks
from .tables import Table, read_csv
from .vocabulary import CharacterVocabulary
from .windowing import windows

__all__ = [
    "ArrayBatch", "ArrayBatches", "CharacterVocabulary", "Corpus", "SequenceBatch", "SequenceBatches", "Standardizer",
    "StepBatch", "StreamBatches", "Table", "TextStream", "Window", "ngram_losses", "pad_sequence", "read_csv",
    "shuffle_chunks", "split", "split_by_group", "split_by_time", "standard_library", "text_corpus", "windows",
]  # fmt: skip
