"""Texts: corpora, vocabularies, texts larger than memory, and n-gram baselines."""

from .corpus import Corpus, standard_library, text_corpus
from .encoded import EncodedText, encoded_text
from .ngrams import ngram_losses
from .vocabulary import CharacterVocabulary

__all__ = [
    "CharacterVocabulary", "Corpus", "EncodedText", "encoded_text", "ngram_losses", "standard_library", "text_corpus",
]  # fmt: skip
