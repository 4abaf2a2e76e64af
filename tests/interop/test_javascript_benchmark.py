"""A GRU text model whose forward and backward pass are written by hand in JavaScript agrees with the exported one."""

from support.node import needs_node

from benchmarks import javascript


@needs_node
def test_gradients_equal_those_that_are_derived_by_hand(capsys):
    javascript.main(quick=True)  # raises where they are apart
    printed = capsys.readouterr().out
    assert "| by hand |" in printed and "| NumPy |" in printed
