"""The garbage collector of Python and the tape: room in its young generation for a tape.

Python looks for cycles whenever 700 more containers live than when it last looked (2,000 from Python 3.13 on), and
looks again at those that survive. A forward pass makes some four containers per op, which are part of no cycle and all
live until backward: looking at them takes a fifth of the time of a pass, and half of it when there are 200,000 records.
So a backward walk leaves room for a tape like the one that it walked: the next pass is over before the collector looks.
All else counts as before: cycles are looked for when 700 more containers live than such a tape needs. (Tuples that
Python reuses, 2,000 of a length, it does not count. So it may be 6,000 more.) The room stays after the last backward:
if cycles hold much memory then, `gc.collect()`, or set another threshold than Python's own, as `gc.set_threshold(701)`.
"""

from __future__ import annotations

import gc

#: The thresholds with which Pythons start. Any other is a user's, and stays.
_DEFAULTS = (700, 2000)
#: Room for more is not made: it would be no faster, and as many containers may be in cycles, with their arrays.
_MOST = 20_000


class YoungGeneration:
    """The threshold of the collector's young generation, as long as no user sets it."""

    def __init__(self) -> None:
        self._start = self._set = gc.get_threshold()[0]

    def make_room(self, records: int) -> None:
        """Let a tape of so many records grow without a collection: each is a `Node` and tuples, most often three."""
        threshold, *older = gc.get_threshold()
        if threshold in (self._start, self._set) and self._start in _DEFAULTS:
            self._set = self._start + min(4 * records, _MOST)
            if self._set != threshold:
                gc.set_threshold(self._set, *older)


#: That of this process.
young_generation = YoungGeneration()
