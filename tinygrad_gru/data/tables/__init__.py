"""Tables of named columns: from CSV files, and from frames of pandas and polars."""

from .reading import read_csv
from .table import Table

__all__ = ["Table", "read_csv"]
