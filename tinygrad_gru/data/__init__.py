"""Data as NumPy arrays for any backend: tables, windows and splits of them, and batches in epochs."""

from ..hints import missing_name
from .arrays import ArrayBatch, ArrayBatches
from .epochs import Epochs
from .padding import pad_sequence
from .sequences import SequenceBatch, SequenceBatches, StepBatch
from .sharded import ShardedArray
from .splits import split, split_by_group, split_by_time
from .standardizer import Standardizer
from .streams import StreamBatches, TextStream, Window, shuffle_chunks
from .tables import Table, read_csv
from .text import CharacterVocabulary, Corpus, EncodedText, encoded_text, ngram_losses, standard_library, text_corpus
from .windowing import windows

__all__ = [
    "ArrayBatch", "ArrayBatches", "CharacterVocabulary", "Corpus", "EncodedText", "Epochs", "SequenceBatch",
    "SequenceBatches", "ShardedArray", "Standardizer", "StepBatch", "StreamBatches", "Table", "TextStream", "Window",
    "encoded_text", "ngram_losses", "pad_sequence", "read_csv", "shuffle_chunks", "split", "split_by_group",
    "split_by_time", "standard_library", "text_corpus", "windows",
]  # fmt: skip

_INDICES = "data.split(count, fractions, seed), which gives the indices of each part"

#: Names of other libraries, and what to write instead.
HINTS = {
    "DataLoader": "data.ArrayBatches(x, y, batch_size, seed), or data.SequenceBatches; train.fit takes PyTorch's, too",
    "Dataset": "a list or arrays in data.ArrayBatches or SequenceBatches; train.fit takes whatever iterates batches",
    "TensorDataset": "data.ArrayBatches(x, y, batch_size, seed)",
    "random_split": _INDICES,
    "IterableDataset": "a generator of batches, which train.fit takes",
    **dict.fromkeys(
        "Sampler RandomSampler BatchSampler SequentialSampler".split(), "seed=… of data.ArrayBatches: an order"
    ),
    "DistributedSampler": "train.fit(…, parallel='mpi'), which cuts each batch, or ranks.rows_of(len(x))",
    **dict.fromkeys(
        "collate_fn default_collate".split(), "data.pad_sequence(sequences), or data.SequenceBatches, which pads"
    ),
    "get_worker_info": "not needed: batches are made in this process",
    **dict.fromkeys("read_parquet read_excel load_csv".split(), "data.read_csv(path), or data.Table.from_frame(frame)"),
    "from_tensor_slices": "data.ArrayBatches(x, y, batch_size, seed)",
    **dict.fromkeys(
        "MNIST CIFAR10 load_dataset".split(), "nothing: data are arrays of yours; data.text_corpus has a text"
    ),
    "one_hot": "ops.one_hot(ids, classes)",
    "Subset": "arrays at these indices: x[indices], y[indices]",
    "train_test_split": _INDICES,
    "StandardScaler": "data.Standardizer()",
    **dict.fromkeys(["Normalization", "MinMaxScaler", "RobustScaler"], "data.Standardizer()"),
    **dict.fromkeys(["LabelEncoder", "StringLookup"], "np.unique(strings, return_inverse=True)"),
    "to_categorical": "ops.one_hot(ids, classes); ops.cross_entropy takes the ids as they are",
    **dict.fromkeys(["Tokenizer", "TextVectorization"], "data.CharacterVocabulary.from_text(text), or ids of your own"),
    **dict.fromkeys(["TimeseriesGenerator", "TimeSeriesGenerator"], "data.windows(series, width, horizon, stride)"),
    "pad_sequences": "data.pad_sequence(sequences, batch_first=True), padded at the end",
    "timeseries_dataset_from_array": "data.windows(series, width, horizon, stride)",
    "TimeSeriesSplit": "data.split_by_time(series, fractions)",
    "GroupShuffleSplit": "data.split_by_group(groups, fractions, seed)",
    **dict.fromkeys(["MemmapDataset", "StreamingDataset", "ConcatDataset"], "data.ShardedArray(paths of .npy files)"),
    "DataFrame": "data.Table(columns), and data.Table.from_frame(frame) of a frame",
}


def __getattr__(name: str) -> object:
    raise missing_name(__name__, name, HINTS, __all__)
