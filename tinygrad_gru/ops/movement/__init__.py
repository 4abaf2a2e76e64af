"""Movement ops: they move, select or order elements without changing them, and count positions."""
