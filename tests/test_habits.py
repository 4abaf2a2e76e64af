"""Habits of PyTorch's and NumPy's users, typed blindly: each works, or is answered with what to type.

A case is a statement of one line and what it gives: a value of NumPy's, a text that the error's message has, or None
where that it works is enough. The statements see `tg`, `np`, `nn`, `ops`, `optim`, a leaf x (2, 3) of 0 … 5, a constant
c with the same values, and a linear layer `model` (3, 2).
"""

from __future__ import annotations

import ast

import numpy as np
import pytest

import tinygrad_gru as tg
from tinygrad_gru import nn, ops, optim

X = np.arange(6, dtype="float32").reshape(2, 3)

PYTORCH = [
    ("tg.tensor([1.0, 2.0], requires_grad=True).sum().item()", 3.0),
    ("tg.zeros(2, 3) + tg.ones(2, 3) + tg.full((2, 3), 2.0)", np.full((2, 3), 3.0)),
    ("tg.arange(3).float()", [0.0, 1.0, 2.0]),
    ("tg.manual_seed(0); tg.randn(2, 3).shape", (2, 3)),
    ("tg.from_numpy(np.ones(2))", "here it is Tensor(array)"),
    ("tg.tensor([1.0], dtype=tg.float32)", "here it is the string 'float32'"),
    ("tg.cat([x, x])", "here it is ops.concatenate(arrays, axis=0)"),
    ("tg.relu(x)", "here it is ops.relu"),
    ("tg.nn.Linear(3, 2)(x).size()", (2, 2)),
    ("x.view(3, 2)", X.reshape(3, 2)),
    ("x.view(-1)", X.reshape(-1)),
    ("x.permute(1, 0)", X.T),
    ("x.transpose(0, 1)", "to exchange two, as PyTorch's does, write swapaxes(0, 1)"),
    ("x.swapaxes(0, 1)", X.T),
    ("x.unsqueeze(0).transpose(0, 1)", "write swapaxes(0, 1)"),
    ("x.t()", "here it is t.T"),
    ("x.unsqueeze(1).shape", (2, 1, 3)),
    ("x.unsqueeze(0).squeeze(0)", X),
    ("x.flatten()", X.ravel()),
    ("x.contiguous().view(6)", X.ravel()),
    ("x.size(0), x.size()", (2, (2, 3))),
    ("x.numel()", 6),
    ("x.dim()", "here it is t.ndim"),
    ("x.clamp(min=1, max=4)", X.clip(1, 4)),
    ("x.sum(dim=1, keepdim=True)", X.sum(1, keepdims=True)),
    ("x.mean(1)", X.mean(1)),
    ("x.softmax(dim=-1).sum(-1)", [1.0, 1.0]),
    ("values, indices = x.max(dim=1)", "return_indices=True for both"),
    ("x.max(1, return_indices=True)[1]", [2, 2]),
    ("x.max(1).values", "return_indices=True for both"),
    ("_, predicted = x.max(1)", "return_indices=True for both"),
    ("x.argmax(dim=1)", [2, 2]),
    ("x.std(dim=1)", "PyTorch's default is correction=1, here and in NumPy it is 0: say which"),
    ("x.std(dim=1, correction=1)", X.std(1, ddof=1)),
    ("x.std(unbiased=True)", "write correction=1 for True"),
    ("x.expand(4, -1, -1).shape", (4, 2, 3)),
    ("x.detach().cpu().numpy()", X),
    ("x.detach().clone()", X),
    ("x.double().dtype", np.dtype("float64")),
    ("x.to(np.float64).dtype", np.dtype("float64")),
    ("x.to('cpu')", X),
    ("x.to(dtype='float64').dtype, x.to('cpu', dtype='float64').dtype", (np.dtype("float64"), np.dtype("float64"))),
    ("model.to(device='cpu', dtype='float64').W.dtype", np.dtype("float64")),
    ("p = nn.Parameter(np.ones(2), requires_grad=False); p.requires_grad, p.is_frozen", (False, True)),
    ("(x > 1) & ~(x > 4)", (X > 1) & ~(X > 4)),
    ("(x > 9).any().item(), (x >= 0).all().item()", (False, True)),
    ("x // 2, x % 2", (X // 2, X % 2)),
    ("x.masked_fill(x > 2, 0.0)", np.where(X > 2, 0, X)),
    ("x.gather(1, tg.tensor([[0], [2]]))", [[0.0], [5.0]]),
    ("x.topk(2)[0]", X[:, :0:-1]),
    ("x.chunk(3, dim=1)[1]", X[:, 1:2]),
    ("x.split(1)", "t.chunk(parts, axis)"),
    ("x.add_(1)", "here it is under no_grad: t += other"),
    ("x.pow(2)", "here it is t ** other"),
    ("x.matmul(x.T)", "here it is t @ other"),
    ("x.numpy()", X),
    ("x += 1", "write it in `with no_grad():`"),
    ("with tg.no_grad(): x -= 0.1 * c", None),
    ("total = 0.0; total += x.sum(); total.backward(); x.grad", np.ones((2, 3))),
    ("total = tg.zeros(()); total += x.sum(); total.backward(); x.grad", np.ones((2, 3))),
    ("tg.Tensor([x.sum(), x.mean()])", "write ops.stack"),
    ("ops.softmax(x, 1).shape", (2, 3)),
    ("ops.sum(x, axs=1)", "did you mean 'axis'?"),
    ("ops.cat([x, x])", "here it is ops.concatenate(arrays, axis=0)"),
    ("tg.save(model.state_dict(), path); model.load_state_dict(tg.load(path))", None),
    ("tg.load('model.pt', map_location='cpu')", "`load_state_dict` copies them to where the model is"),
    ("tg.set_default_dtype('float64')", "module 'tinygrad_gru' has no attribute"),
    ("optim.lr_scheduler", "a schedule of optim"),
    ("tg.train.fit, tg.data, tg.testing.gradcheck, tg.interop.torch", None),
    ("tg.cuda.is_available()", "here it is the backend 'cupy'"),
    ("for p in model.parameters(): p.requires_grad = False", None),
    ("x.is_leaf, x.requires_grad, x.dtype, x.device", None),
    ("x.grad_fn", "here it is t.node"),
    (
        "tg.full((2, 2), 7), tg.full((2,), 7).dtype, tg.full((2,), True).dtype",
        (np.full((2, 2), 7), np.dtype("int64"), bool),
    ),
    ("tg.Tensor(2, 3)", "a shape? write zeros(shape)"),
    ("ops.layer_norm(c, (3,))", "it is always over the last axis"),
    ("ops.layer_norm(c, [1.0, 1.0, 1.0]).mean()", 0.0),
    ("tg.max(x, 1)", "(values, indices) with return_indices=True"),
    ("tg.autograd.grad(x.sum(), x)[0]", "a Tensor for one x and a list for several"),
    ("tg.triu(x)", "t * np.triu(np.ones(t.shape[-2:], t.dtype))"),
    ("c * np.triu(np.ones(c.shape[-2:], c.dtype))", np.triu(X)),
    ("x.unflatten(1, (1, 3))", "t.reshape(shape)"),
    ("x.median()", "here it is np.median(t), of values"),
    ("x.argmax(dim=1, keepdim=True)", "write ops.expand_dims"),
    ("x.norm(p=1)", "write the formula"),
    ("ops.zeros(2, 3)", "here it is tinygrad_gru.zeros"),
    ("model.in_features", "here it is m.W.shape[0]"),
    ("nn.RMSNorm(4)", "x.square().mean(axis=-1, keepdims=True)"),
    ("nn.relu(x)", "here it is ops.relu"),
    ("x.maximum(c)", "here it is ops.maximum(t, other)"),
    ("tg.grad(lambda w: (w * w).sum())(x)", "got a function: write y = f(x), then grad(y, x)"),
    ("tg.grad(x.sum())", "inputs: expected a tensor or a list of tensors, got NoneType"),
    ("optim.Adam(model.parameters()).minimize(x.sum())", "here it is loss.backward(), then optimizer.step()"),
    ("optim.Adam(model.parameters()).nothing", "'Adam' object has no attribute 'nothing'"),
    ("tg.parallel.init().world_size", "Ranks has no attribute 'world_size'; here it is ranks.size"),
    ("tg.parallel.init().sise", "did you mean 'size'?"),
]

NUMPY = [
    ("np.sin(x)", np.sin(X)),
    ("np.exp(x).sum()", np.exp(X).sum(dtype="float64")),
    ("np.concatenate([x, c])", np.concatenate([X, X])),
    ("np.stack([x, c], axis=-1).shape", (2, 3, 2)),
    ("np.where(X > 2, x, 0.0)", np.where(X > 2, X, 0)),
    ("np.sum(x, axis=1, keepdims=True)", X.sum(1, keepdims=True)),
    ("np.mean(x), np.std(x), np.max(x)", (X.mean(), X.std(), X.max())),
    ("np.std(x, ddof=1)", X.std(ddof=1)),
    ("np.maximum(x, 2.0)", np.maximum(X, 2)),
    ("np.dot(x, x.T)", X @ X.T),
    ("X * x", X * X),
    ("np.float64(2) * x", 2 * X),
    ("x @ [[1.0], [2.0], [3.0]]", X @ [[1.0], [2.0], [3.0]]),
    ("x + [1.0, 2.0, 3.0]", X + np.array([1.0, 2.0, 3.0])),
    ("np.asarray(c)", X),
    ("np.asarray(x)", "say tensor.detach().numpy() if that is meant"),
    ("np.arctan(c)", np.arctan(X)),
    ("np.arctan(x)", "define an op with @op"),
    ("np.add.reduce(x)", "write ops.sum(tensor, axis)"),
    ("np.sum(x, out=np.zeros(3))", "write t[...] = result"),
    ("X += x", "write a = a + tensor"),
    ("x.reshape((3, 2)), x.reshape(3, 2), x.T", (X.reshape(3, 2), X.reshape(3, 2), X.T)),
    ("x.size, x.ndim, x.shape, len(x)", (6, 2, (2, 3), 2)),
    ("x.astype('float64').dtype, x.astype(np.int64).dtype", (np.dtype("float64"), np.dtype("int64"))),
    ("x[0, 1:], x[[1, 0]], x[x > 2], x[..., None].shape", (X[0, 1:], X[[1, 0]], X[X > 2], (2, 3, 1))),
    ("c[0] = 7.0; c[0]", [7.0, 7.0, 7.0]),
    ("c += 1.0; c", X + 1),
    ("c *= [1.0, 2.0, 3.0]; c", X * [1, 2, 3]),
    ("range(5)[tg.tensor(2)], [10, 20, 30][tg.tensor(1)]", (2, 20)),
    ("[10, 20][tg.tensor(1.0)]", "expected an integer, got a tensor of float32"),
    ("x.ravel()", "here it is t.flatten()"),
    ("x.copy()", "here it is t.clone()"),
    ("x.round()", "np.round(t.numpy())"),
    ("x.std(ddof=1)", X.std(ddof=1)),
    ("for row in x: row.sum()", None),
    ("float(x.sum()), int(x[1, 2]), bool(x[0, 0] == 0), f'{x[0, 1]:.2f}'", (15.0, 5, True, "1.00")),
    ("np.allclose(x, X), np.array_equal(c, X), np.isnan(x).any()", (True, True, False)),
    ("tg.zeros((2, 3), 'float64')", "a dtype is given by name"),
    ("tg.random.randn(3)", "here it is rand, randn and randint"),
    ("tg.array([1.0])", "here it is Tensor(data)"),
    ("np.vstack([x, x])", "did you mean 'stack'?"),
    ("tg.quantile(c, 0.5)", "here it is np.quantile(…), which takes Tensors; no gradient flows through it"),
    ("np.quantile(c, 0.5)", 2.5),
    ("tg.pi, tg.nan", "here it is np.pi"),
    ("c.nonzero()", "here it is np.nonzero(t)"),
    ("c.fill(0.0)", "here it is t[...] = value"),
    ("np.linalg.norm(x)", np.linalg.norm(X)),
]  # fmt: skip


def run(statements, path):
    """The value of the last statement, if that is an expression."""
    leaf, constant = tg.tensor(X, requires_grad=True), tg.tensor(X)
    names = {
        "tg": tg, "np": np, "nn": nn, "ops": ops, "optim": optim, "X": X.copy(), "x": leaf, "c": constant,
        "model": nn.Linear(3, 2), "path": path,
    }  # fmt: skip
    *first, last = ast.parse(statements).body
    exec(compile(ast.Module(first, []), "habit", "exec"), names)
    if isinstance(last, ast.Expr):
        return eval(compile(ast.Expression(last.value), "habit", "eval"), names)
    exec(compile(ast.Module([last], []), "habit", "exec"), names)
    return None


def check(result, expected):
    if isinstance(expected, tuple):
        assert len(result) == len(expected)
        for one, other in zip(result, expected):
            check(one, other)
    elif isinstance(expected, (np.dtype, type, str)):
        assert result == expected
    else:
        np.testing.assert_allclose(
            result.detach().numpy() if isinstance(result, tg.Tensor) else result, expected, rtol=1e-5
        )


@pytest.mark.parametrize(("statements", "expected"), PYTORCH + NUMPY, ids=[case[0] for case in PYTORCH + NUMPY])
def test_a_habit_works_or_is_answered(statements, expected, tmp_path):
    is_answer = isinstance(expected, str)
    try:
        result = run(statements, tmp_path / "file")
    except Exception as error:
        assert is_answer, f"{type(error).__name__}: {error}"
        assert expected in str(error)
    else:
        assert not is_answer, f"it gives {result!r}"
        if expected is not None:
            check(result, expected)


def test_there_are_as_many_habits_as_promised():
    assert len(PYTORCH) >= 40 and len(NUMPY) >= 20
