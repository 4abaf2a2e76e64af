"""Hints: what to write here instead of a name that PyTorch, Keras or NumPy has and this package has not.

One table for each place where such a name is looked up: from the foreign name to one line that says what to write,
or that there is no such thing. The line completes "module 'tinygrad_gru.nn' has no attribute 'MSELoss'; here it is …".
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from opcode import opmap
from typing import Any

import numpy as np

_DTYPES = ("float16", "bfloat16", "float32", "float64", "int32", "int64", "bool")
_COMPILED = "not needed: recurrent layers and scan are compiled; compiling(False) turns it off"
PARALLEL = "tinygrad_gru.parallel: train.fit(…, parallel='mpi'), or parallel.synchronised(optimizer)"
#: Functions of PyTorch's or NumPy's, here a line of other ops, with a gradient; of the package, of ops and of a Tensor.
FORMULAS = {
    "tril": "t * np.tril(np.ones(t.shape[-2:], t.dtype))",
    "triu": "t * np.triu(np.ones(t.shape[-2:], t.dtype))",
    "diag": "t[range(n), range(n)] of a matrix, ops.einsum('i,ij->ij', t, eye(n)) of a vector",
    "diagonal": "t[range(n), range(n)]",
    "trace": "ops.einsum('ii->', t)",
    "outer": "a[:, None] * b[None, :]",
    "tensordot": "ops.einsum('abc,cd->abd', a, b), with letters for the axes",
    "diff": "t[1:] - t[:-1]",
    "roll": "ops.concatenate([t[-n:], t[:-n]])",
    "cumprod": "ops.cumsum(ops.log(t), axis).exp(), of positive numbers",
    "lerp": "a + weight * (b - a)",
    "addmm": "bias + a @ b",
    "var_mean": "ops.var(t, axis), ops.mean(t, axis)",
    "aminmax": "t.min(), t.max()",
    "ptp": "t.max() - t.min()",
    "amax": "t.max(axis=…)",
    "amin": "t.min(axis=…)",
    "movedim": "ops.moveaxis(t, source, destination)",
    "unflatten": "t.reshape(shape), with all axes",
    "repeat_interleave": "ops.repeat(t, repeats, axis)",
    "take_along_dim": "ops.gather(t, indices, axis)",
    "index_add": "ops.scatter_add(t, values, index)",
    "index_fill": "t.masked_fill(mask, value)",
    "unfold": "data.windows(t.numpy(), width), of values",
    "dist": "(a - b).norm()",
    "cdist": "ops.norm(a[:, None] - b[None], axis=-1)",
    "normalize": "t / t.norm(axis=-1, keepdims=True)",
    "cosine_similarity": "(a * b).sum(-1) / (a.norm(axis=-1) * b.norm(axis=-1))",
    "histc": "np.histogram(t, bins), of values",
    "bernoulli": "rand(*p.shape) < p",
    "erf": "nothing, but ops.gelu(x) has it: t · (1 + erf(t / √2)) / 2",
}
_GRADIENTS = (
    "grad(y, x), a Tensor for one x and a list for several; vjp, jvp, hvp, jacobian, hessian; detect_anomaly; @op for "
    "an op"
)
_EXTREMA = "the values alone; (values, indices) with return_indices=True"
#: Of the package itself, beside those of `ops`.
PACKAGE = {
    **FORMULAS,
    "max": f"ops.max(x, axis), {_EXTREMA}",
    "min": f"ops.min(x, axis), {_EXTREMA}",
    "equal": "np.array_equal(a, b), one answer; ops.equal(a, b), one for each element",
    "multinomial": "ops.categorical(logits, sample_shape=n), which takes logits",
    "vmap": "not needed: ops act on the last axes, and take any axes before them",
    "is_grad_enabled": "the requires_grad of a result",
    "set_default_dtype": "dtype='float64' for a tensor, model.astype('float64') for a model",
    "get_default_dtype": "'float32'",
    "set_num_threads": "the environment variable OMP_NUM_THREADS, before the start",
    "use_deterministic_algorithms": "manual_seed(seed)",
    "backends": "a string, 'numpy' or 'cupy': Tensor(data, device='cupy'); tf32(True) for CuPy's products",
    "Generator": "manual_seed(seed): one stream for all random numbers",
    "FloatTensor": "tensor(data), float32 if data are floats",
    "LongTensor": "tensor(data, dtype='int64')",
    **dict.fromkeys("inverse det svd qr".split(), "of values a function of np.linalg, which takes Tensors"),
    "fft": "np.fft, of values",
    **dict.fromkeys("complex64 complex128".split(), "nothing: there are no complex numbers"),
    **dict.fromkeys("anomaly sanitizer".split(), "tinygrad_gru.debug"),
    **dict.fromkeys("distributed DistributedDataParallel DDP mpi Accelerator".split(), PARALLEL),
    "Variable": "Tensor(data, requires_grad=True)",
    "from_numpy": "Tensor(array), a copy",
    "array": "Tensor(data)",
    "constant": "Tensor(data)",
    "is_tensor": "isinstance(x, Tensor)",
    "empty_like": "zeros_like(x)",
    "rand_like": "rand(*x.shape)",
    "randn_like": "randn(*x.shape)",
    "randperm": "ops.argsort(rand(n))",
    "normal": "mean + std * randn(*shape)",
    "random": "rand, randn and randint, seeded by manual_seed",
    "get_rng_state": "random_state()",
    "set_rng_state": "set_random_state(state)",
    **{name: f"the string {name!r}: dtypes are given by name" for name in _DTYPES},
    **dict.fromkeys("float long double half".split(), "a string, such as 'float32': dtypes are given by name"),
    **dict.fromkeys("as_tensor asarray".split(), "Tensor(data), a copy"),
    **dict.fromkeys("seed set_seed set_random_seed".split(), "manual_seed(seed)"),
    **dict.fromkeys("compile jit".split(), _COMPILED),
    **dict.fromkeys("autocast amp".split(), "train.fit(…, precision='bfloat16')"),
    **dict.fromkeys("autograd func".split(), _GRADIENTS),
    "device": "a string, 'numpy' or 'cupy': Tensor(data, device='cupy'), or a block `with use('cupy'):`",
    "cuda": "the backend 'cupy': model.to('cupy'), or a block `with use('cupy'):`",
    "set_default_device": "use('cupy')",
    "set_grad_enabled": "a block: `with no_grad():` or `with enable_grad():`",
    "inference_mode": "a block: `with no_grad():`",
    "GradientTape": "loss.backward(), or grad(loss, parameters); the tape is always on",
    "value_and_grad": "y = f(x), then grad(y, x)",
    "utils": "data for batches, optim.clip_gradient_norm for clipping, checkpoint (remat) for recomputation",
    "optimizers": "optim",
    **dict.fromkeys("layers models".split(), "nn"),
    "keras": "nn for layers, optim for optimizers, and train.fit(model, loss, data)",
    "load_model": "a model made anew, then model.load_state_dict(load('model.safetensors'))",
    **dict.fromkeys("reduce_mean reduce_sum reduce_max".split(), "a method: x.mean(axis), x.sum(axis), x.max(axis)"),
    "Model": "nn.Module, trained by train.fit(model, loss, data)",
    "losses": "a function of ops: ops.cross_entropy(logits, targets), ops.mse(y, targets), …",
    "metrics": "train.Metric and its kind, given to train.fit(…, metrics=…)",
    "callbacks": "train.Callback and its kind, given to train.fit(…, callbacks=…)",
    **dict.fromkeys("fit LightningModule TrainState train_state".split(), "train.fit(model, loss, data)"),
    **dict.fromkeys("F functional special".split(), "ops: ops.relu(x), ops.cross_entropy(logits, targets), …"),
    **dict.fromkeys("DataLoader Dataset TensorDataset".split(), "data.ArrayBatches(x, y, batch_size, seed)"),
    "DistributedSampler": "the rows of this rank: ranks.rows_of(len(x)), of ranks = parallel.init()",
    **dict.fromkeys("pmap pjit psum sharding device_count local_device_count process_index".split(), PARALLEL),
    **dict.fromkeys("function script tf".split(), _COMPILED),
    "make_jaxpr": "explain(step, carry, xs), which shows what a recurrence is compiled to",
    "lax": "scan(step, carry, xs); ops.where for cond, x.detach() for stop_gradient",
    "stop_gradient": "x.detach()",
    "associative_scan": "scan(step, carry, xs), which runs a linear recurrence in parallel by itself",
    **dict.fromkeys("tree tree_map tree_util".split(), "{name: f(p) for name, p in model.named_parameters()}"),
    **dict.fromkeys("jacrev jacfwd".split(), "jacobian(f, x)"),
    **dict.fromkeys("custom_vjp custom_jvp custom_gradient".split(), "an op of your own with its rules: help(op)"),
    **dict.fromkeys("PRNGKey key".split(), "manual_seed(seed): one stream for all random numbers"),
    "device_put": "x.to('cupy'), or x.to('numpy')",
    **dict.fromkeys("devices local_devices get_default_device".split(), "x.device; `with use('cupy'):` for a default"),
    "block_until_ready": "not needed on NumPy, whose results are there; x.numpy() waits for a GPU",
    "profiler": "sanitize(), which counts launches, copies and waits; Python's own cProfile for time",
    "set_float32_matmul_precision": "tf32(True), for products on a GPU",
    "distributions": "ops.categorical(logits), rand and randn; log-probabilities are lines of ops",
    "Categorical": "ops.categorical(logits), which samples ids; ops.log_softmax(logits) has their log-probabilities",
    "Normal": "mean + std * randn(*shape)",
    "Size": "a tuple",
    "newaxis": "None, in an index: x[:, None]",
    "export": "interop.onnx.save(model, path, …), or tinygrad-gru export",
    "quantization": "nothing: weights are float16 at the smallest, model.astype('float16')",
    "hub": "nothing: weights are files; interop.torch.load and interop.keras.load read those of others",
    "optax": "optim: optim.Adam(model.parameters(), lr=1e-3), then optimizer.step()",
    "arctan": "of constants np.arctan(x); an op of your own with @op",
}

#: Of `ops`.
OPS = {
    **{name: hint for name, hint in FORMULAS.items() if name not in ("amax", "amin", "take_along_dim", "index_add")},
    **{
        name: f"tinygrad_gru.{name}(…)"
        for name in "arange empty eye full linspace ones ones_like rand randint randn zeros zeros_like".split()
    },
    **dict.fromkeys("array asarray tensor".split(), "tinygrad_gru.tensor(data)"),
    "scaled_dot_product_attention": "ops.softmax(q @ k.mT * scale) @ v",
    "rearrange": "ops.einsum('b t f -> t b f', x) to permute, x.reshape(…) to join or split axes",
    "batch_norm": "ops.layer_norm(x), over the last axis; there is no batch normalization",
    **dict.fromkeys("cat concat".split(), "ops.concatenate(arrays, axis=0)"),
    "permute": "ops.transpose(x, axes)",
    "swapaxes": "ops.moveaxis(x, source, destination), or ops.matrix_transpose(x) for the last two",
    "unsqueeze": "ops.expand_dims(x, axis)",
    "clamp": "ops.clip(x, low, high)",
    "swish": "ops.silu(x)",
    "mish": "x * ops.tanh(ops.softplus(x))",
    **{name: f"nn.{name.upper()}(input_size, hidden_size)" for name in "rnn gru lstm".split()},
    **dict.fromkeys("scan while_loop fori_loop associative_scan".split(), "tinygrad_gru.scan(step, carry, xs)"),
    "cond": "ops.where(condition, a, b), or Python's if",
    "stop_gradient": "x.detach()",
    "convert_to_tensor": "tinygrad_gru.tensor(data)",
    "convert_to_numpy": "x.numpy()",
    **dict.fromkeys("conv1d conv2d max_pool1d avg_pool1d interpolate".split(), "data.windows, and products of them"),
    "multinomial": "ops.categorical(logits, sample_shape=n), which takes logits",
    **dict.fromkeys(
        "binary_cross_entropy binary_crossentropy bce".split(), "ops.binary_cross_entropy_with_logits(logits, targets)"
    ),
    **dict.fromkeys(
        "categorical_crossentropy sparse_categorical_crossentropy".split(),
        "ops.cross_entropy(logits, targets), with the logits first",
    ),
    "smooth_l1_loss": "ops.huber(predictions, targets, delta=1.0)",
    **dict.fromkeys("mm bmm dot mv".split(), "ops.matmul(a, b), or a @ b"),
    **dict.fromkeys("tile expand broadcast".split(), "ops.broadcast_to(x, shape), or ops.repeat(x, repeats, axis)"),
    **{
        theirs: f"ops.{ours}"
        for theirs, ours in {
            "abs": "absolute", "mul": "multiply", "sub": "subtract", "div": "divide", "neg": "negative", "pow": "power",
            "mod": "remainder", "amax": "max", "amin": "min", "eq": "equal", "ne": "not_equal", "lt": "less",
            "le": "less_equal", "gt": "greater", "ge": "greater_equal", "mse_loss": "mse", "l1_loss": "mae",
            "huber_loss": "huber", "nll_loss": "nll", "kl_div": "kl_divergence",
            "mean_squared_error": "mse", "mean_absolute_error": "mae", "reduce_mean": "mean", "reduce_sum": "sum",
            "logsigmoid": "log_sigmoid", "take_along_axis": "gather", "take_along_dim": "gather",
            "index_select": "take", "index_add": "scatter_add", "hstack": "concatenate", "vstack": "concatenate",
        }.items()
    },
}  # fmt: skip

_SCHEDULE = "a class of your own: `class Mine(optim.Schedule):` with `def factor(self, t): return …`"
_COSINE = "optim.WarmupCosine(optimizer, total_steps)"
#: Of `optim`.
OPTIM = {
    "swa_utils": "train.WeightAverage(), a callback of train.fit",
    "lr_scheduler": "a schedule of optim: optim.StepDecay, OneCycle, ReduceOnPlateau, WarmupCosine, WarmupLinear",
    "StepLR": "optim.StepDecay(optimizer, every=step_size, decay=gamma)",
    "ExponentialLR": "optim.StepDecay(optimizer, every=1, decay=gamma)",
    "CosineAnnealingLR": "optim.WarmupCosine(optimizer, total_steps=T_max, warmup=0.0)",
    "ExponentialDecay": "optim.StepDecay(optimizer, every=decay_steps, decay=decay_rate)",
    "CosineDecay": "optim.WarmupCosine(optimizer, total_steps=decay_steps, warmup=0.0)",
    "LinearLR": "optim.WarmupLinear(optimizer, total_steps)",
    "OneCycleLR": "optim.OneCycle(optimizer, total_steps), whose peak is the lr of the optimizer",
    "ReduceLROnPlateau": "optim.ReduceOnPlateau(optimizer, decay=factor), then schedule.step(metric)",
    "LambdaLR": _SCHEDULE,
    **dict.fromkeys("LearningRateSchedule LRScheduler SequentialLR ConstantLR CyclicLR".split(), _SCHEDULE),
    **dict.fromkeys(
        "MultiStepLR PolynomialLR CosineAnnealingWarmRestarts piecewise_constant_schedule".split(), _SCHEDULE
    ),
    **dict.fromkeys(
        "cosine_decay_schedule warmup_cosine_decay_schedule get_cosine_schedule_with_warmup".split(), _COSINE
    ),
    **dict.fromkeys(
        "linear_schedule get_linear_schedule_with_warmup".split(), "optim.WarmupLinear(optimizer, total_steps)"
    ),
    "exponential_decay": "optim.StepDecay(optimizer, every=transition_steps, decay=decay_rate)",
    "chain": "optim.clip_gradient_norm(parameters, max_norm), then optimizer.step()",
    "apply_updates": "optimizer.step(), which writes into the parameters",
    "clip_grad_norm_": "optim.clip_gradient_norm(parameters, max_norm)",
    "clip_grad_value_": "optim.clip_gradient_value(parameters, max_value)",
    **dict.fromkeys(
        "Adadelta Adafactor Adamax Ftrl Lamb Lion Muon NAdam Nadam RAdam Rprop SparseAdam".split(),
        "optim.Adam or optim.AdamW; an optimizer of your own is its rule, a few lines: help(optim.Optimizer)",
    ),
}

#: Of an Optimizer.
OPTIMIZER = {
    "get_lr": "optimizer.lr",
    **dict.fromkeys("minimize backward".split(), "loss.backward(), then optimizer.step()"),
    **dict.fromkeys("apply_gradients update".split(), "optimizer.step(), which takes the gradients of the parameters"),
    "init": "not needed: the state is made when it is first used",
    "defaults": "optimizer.groups, dictionaries of settings",
    "add_param_group": "a new optimizer with all groups: optim.Adam([{'parameters': …, 'lr': …}, …])",
}


def missing_attribute(owner: str, name: str, hints: Mapping[str, str], known: Iterable[str] = ()) -> AttributeError:
    """The error for an attribute that `owner` has not: with its hint, or else with the `known` name most like it."""
    text = f"; here it is {hints[name]}" if name in hints else did_you_mean(name, known)
    return AttributeError(f"{owner} has no attribute {name!r}{text}", name=name, obj=None)  # Python adds no guess


def missing_name(module: str, name: str, hints: Mapping[str, str], known: Iterable[str] = ()) -> Exception:
    """`missing_attribute` for the `__getattr__` of a module, which raises it.

    For `from module import name` it is an ImportError, since that statement would hide the text of an AttributeError.
    """
    error = missing_attribute(f"module {module!r}", name, hints, known)
    caller = sys._getframe(2)
    imports = caller.f_lasti >= 0 and caller.f_code.co_code[caller.f_lasti] == opmap["IMPORT_FROM"]
    return ImportError(f"cannot import {name!r}: {error}") if imports else error


def numpys(name: str) -> dict[str, str]:
    """The hint for a name of NumPy's that is not here: its functions take Tensors, too."""
    found = vars(np).get(name)
    if found is None or name.startswith("_"):
        return {}
    is_function = callable(found) and not isinstance(found, type)
    return {name: f"np.{name}(…), which takes Tensors; no gradient flows through it" if is_function else f"np.{name}"}


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """The end of a message: the known name most like this one, or nothing."""
    from difflib import get_close_matches  # half a millisecond, for errors alone

    found: list[Any] = get_close_matches(name, [k for k in known if not k.startswith("_")], n=1)
    return f" (did you mean {found[0]!r}?)" if found else ""
