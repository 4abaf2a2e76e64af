import numpy as np
import pytest

from tinygrad_gru.data import pad_sequence


@pytest.mark.parametrize("batch_first", [False, True])
@pytest.mark.parametrize("shape", [(), (2,), (2, 3)])
def test_padding_is_that_of_pytorch(rng, shape, batch_first):
    torch = pytest.importorskip("torch")
    arrays = [rng.standard_normal((length, *shape)) for length in (2, 5, 0, 3)]
    ours = pad_sequence(arrays, batch_first, padding_value=-2.5)
    theirs = torch.nn.utils.rnn.pad_sequence([torch.from_numpy(a) for a in arrays], batch_first, -2.5)
    assert np.array_equal(ours, theirs.numpy())
    assert ours.flags.c_contiguous


def test_the_dtype_holds_the_values_of_all_sequences():
    assert pad_sequence([[1], [2.5]]).tolist() == [[1.0, 2.5]]
    assert pad_sequence([np.ones(1, np.float32)]).dtype == np.float32


@pytest.mark.parametrize(
    ("sequences", "value", "message"),
    [
        ([], 0, "sequences is empty"),
        ([np.zeros((2, 3)), np.zeros((2, 4))], 0, r"sequences\[1\] has the shape \(2, 4\)"),
        ([1, 2], 0, r"sequences\[0\] is the single number 1"),
        ([[1], [2, 3]], np.nan, "padding value nan is no value of .* int64"),
        ([[1], [2, 3]], 0.5, "padding value 0.5 is no value of .* int64"),
        ([np.array([1], np.uint8)], -1, "padding value -1 is no value of .* uint8"),
    ],
)
def test_invalid_sequences_are_refused(sequences, value, message):
    with pytest.raises(ValueError, match=message):
        pad_sequence(sequences, padding_value=value)
