import platform
from types import SimpleNamespace

import numpy as np

import tinygrad_gru.version
from tinygrad_gru.train.versions import versions


def test_versions_name_what_computes():
    expected = {
        "tinygrad_gru": tinygrad_gru.version.__version__,
        "python": platform.python_version(),
        "numpy": np.__version__,
    }
    assert versions() == expected
    assert versions(SimpleNamespace(__name__="other", __version__="9")) == {**expected, "other": "9"}
