"""array-api-strict on a device that is not the host: it has what the array API standard has, and nothing else.

Its arrays refuse to become NumPy arrays unless they are copied on purpose, so that whatever runs here makes no hidden
copy to the host, and leans on nothing that is NumPy's alone. It stands in for a GPU on machines that have none.
"""

from __future__ import annotations

import array_api_strict

from tinygrad_gru.backend import Backend

STRICT = Backend("array_api_strict", array_api_strict, array_api_strict.Device("device1"))

#: The ops that the standard cannot express, by name; every other op of the sheet runs here.
NOT_IN_THE_STANDARD = {"einsum": "the standard has no einsum"}
