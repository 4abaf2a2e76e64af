"""The recurrent layers of the modern cells."""

from __future__ import annotations

from ..base.recurrent_docs import documented
from ..recurrent import Recurrent
from .lru import LRUCell
from .minimal import MinGRUCell, MinLSTMCell
from .qrnn import QRNNCell
from .slstm import SLSTMCell
from .sru import SRUCell


@documented
class MinGRU(Recurrent):
    """Minimal GRU: a layer of `MinGRUCell`, whose recurrence is linear (Feng et al. 2024).

    >>> output, h = nn.MinGRU(3, 8, num_layers=2)(np.ones((5, 4, 3)))
    >>> output.shape, h.shape
    ((5, 4, 8), (2, 4, 8))
    """

    cell_type = MinGRUCell


@documented
class MinLSTM(Recurrent):
    """Minimal LSTM: a layer of `MinLSTMCell`, whose recurrence is linear (Feng et al. 2024).

    >>> output, h = nn.MinLSTM(3, 8, forget_bias=1.0)(np.ones((5, 4, 3)))
    >>> output.shape, h.shape
    ((5, 4, 8), (1, 4, 8))
    """

    cell_type = MinLSTMCell


@documented
class SRU(Recurrent):
    """Simple recurrent units: a layer of `SRUCell`, with a highway connection (Lei et al. 2018).

    The state is c; the output is h'.

    >>> output, c = nn.SRU(8, 8, num_layers=4, highway_bias=-2.0)(np.ones((5, 4, 8)))
    >>> output.shape, c.shape
    ((5, 4, 8), (4, 4, 8))
    """

    cell_type = SRUCell


@documented
class QRNN(Recurrent):
    """Quasi-recurrent network: a layer of `QRNNCell`, a convolution over time and pooling (Bradbury et al. 2016).

    Its state is a `State` of c and of what the last inputs contribute to the next steps; the output is h'.

    >>> output, state = nn.QRNN(3, 8, window=2, pooling="fo")(np.ones((5, 4, 3)))
    >>> output.shape, state.c.shape
    ((5, 4, 8), (1, 4, 8))
    """

    cell_type = QRNNCell


@documented
class LRU(Recurrent):
    """Linear recurrent units: a layer of `LRUCell`, complex and diagonal (Orvieto et al. 2023).

    The state is (re, im), a `State`; the output is y.

    >>> output, (re, im) = nn.LRU(8, 8, state_size=16, r_min=0.9)(np.ones((5, 4, 8)))
    >>> output.shape, re.shape
    ((5, 4, 8), (1, 4, 16))
    """

    cell_type = LRUCell


@documented
class SLSTM(Recurrent):
    """LSTM with exponential gates and heads: a layer of `SLSTMCell` (sLSTM, Beck et al. 2024).

    Its state is (h, c, n, m), a `State`.

    >>> output, state = nn.SLSTM(3, 8, heads=2)(np.ones((5, 4, 3)))
    >>> output.shape, state.n.shape
    ((5, 4, 8), (1, 4, 8))
    """

    cell_type = SLSTMCell
