"""Wrong calls of public functions: the error names the argument, what came and what to write, in the words of callers.

Nothing ends in what Python says of our insides: "'float' object has no attribute 'requires_grad'".
"""

from __future__ import annotations

import numpy as np
import pytest

import tinygrad_gru as tg
from tinygrad_gru import Tensor, nn, ops, optim, testing

X = Tensor(np.ones((2, 3), "float32"), requires_grad=True)

CALLS = {
    "None for an array": (lambda: ops.sum(None), r"sum: input 0 must be a Tensor or an array, got None"),
    "a function for an array": (lambda: ops.multiply(X, print), "input 1 must be a Tensor or an array, got a built"),
    "a text": (lambda: ops.tanh("a"), "tanh"),
    "a number where axes are needed": (lambda: ops.transpose(3), "transpose: input 0 must be .*, got the number 3"),
    "None for the first of a composition": (lambda: ops.chunk(None, 2), "chunk: input 0 must be a Tensor .*, got None"),
    "a dictionary": (lambda: ops.dropout({}), "dropout: input 0 must be a Tensor or an array, got a dict"),
    "concatenate of one number": (lambda: ops.concatenate(3), r"expected a list of arrays, got 3: write concatenate\("),
    "stack of nothing": (lambda: ops.stack(None), r"stack: expected a list of arrays, got None: write stack\(\[a, b"),
    "jacobian, swapped": (lambda: tg.jacobian(X, ops.tanh), "function: expected a function, which comes before"),
    "hessian at a list": (lambda: tg.hessian(ops.sum, [1.0]), "expected a Tensor to differentiate .*, got a list"),
    "hvp at None": (lambda: tg.hvp(ops.sum, None, X), "expected a Tensor to differentiate .*, got None"),
    "jvp without lists": (lambda: tg.jvp(ops.tanh, X, X), "primals: expected a list, one for each argument"),
    "jvp of numbers": (lambda: tg.jvp(ops.tanh, [1.0], [1.0]), "primals and tangents: expected Tensors, got a float"),
    "remat, swapped": (lambda: tg.checkpoint(X, ops.tanh), "function: expected a function, which comes before"),
    "remat of a procedure": (lambda: tg.checkpoint(lambda x: None, X), "must return a Tensor or .*, got None"),
    "a schedule, swapped": (lambda: optim.StepDecay([X], every=3), "optimizer: expected an optimizer, .* got a list"),
    "Recurrent itself": (lambda: nn.Recurrent(3, 4), r"Recurrent\.of\(YourCell\)\(input_size, hidden_size\)"),
    "a summary, swapped": (lambda: nn.summary(np.ones(3), nn.Linear(3, 4)), "model must be a Module, which comes"),
    "gradcheck without a list": (lambda: testing.gradcheck(ops.tanh, np.ones(3)), r"inputs: expected a list .* \[x\]"),
    "one shape for shapes": (lambda: testing.check_op(ops.tanh, np.tanh, (3, 4)), r"shapes: expected .* \[\(3, 4\)\]"),
    "no oracle": (lambda: testing.check_op(ops.tanh, [(3, 4)], [(3, 4)]), r"oracle: expected a function of NumPy arra"),
}


@pytest.mark.parametrize("name", CALLS)
def test_wrong_calls(name):
    call, message = CALLS[name]
    with pytest.raises(TypeError, match=message):
        call()


def test_transforms_take_arrays():
    np.testing.assert_allclose(tg.jacobian(ops.square, np.array([1.0, 2.0])).numpy(), [[2.0, 0.0], [0.0, 4.0]])
    np.testing.assert_allclose(tg.hessian(lambda x: ops.sum(x * x), np.ones(2)).numpy(), 2 * np.eye(2))
    assert tg.hvp(lambda x: ops.sum(x * x), np.ones(2), np.ones(2)).tolist() == [2.0, 2.0]


def test_unknown_devices_and_dtypes():
    with pytest.raises(tg.BackendError, match=r"unknown backend 'cupi' \(did you mean 'cupy'\?\): expected 'numpy' or"):
        X.to("cupi")
    with pytest.raises(TypeError, match="dtype: expected a name such as 'float32', got 3"):
        X.astype(3)
    with pytest.raises(TypeError, match="dtype: expected a name such as 'float32', got 32"):
        Tensor([1.0], dtype=32)
