"""array-api-strict on a device that is not the host: the array API standard and nothing else.

Its arrays become NumPy arrays only by explicit copies, so code that runs here has no implicit copies to the host and
uses nothing that is NumPy's alone. It stands in for a GPU on machines without one.
"""

from __future__ import annotations

import array_api_strict

from tinygrad_gru.backend import Backend

STRICT = Backend("array_api_strict", array_api_strict, array_api_strict.Device("device1"))

#: The ops that the standard cannot express, by name; every other op with an op spec runs here.
NOT_IN_THE_STANDARD = {"einsum": "the standard has no einsum"}
