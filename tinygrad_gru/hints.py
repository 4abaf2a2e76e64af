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
_PARALLEL = "tinygrad_gru.parallel: train.fit(…, parallel='mpi'), or parallel.synchronised(optimizer)"
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
    **dict.fromkeys("distributed DistributedDataParallel DDP mpi Accelerator".split(), _PARALLEL),
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
    "fit": "train.fit(model, loss, data)",
    "arctan": "of constants np.arctan(x); an op of your own with @op",
}

_NO_CONVOLUTION = "nothing: there are no convolutions; data.windows and nn.Linear act on windows of a series"
_NO_POOLING = "a reduction over an axis: x.mean(axis=1), x.max(axis=1)"
_NO_ATTENTION = "nothing: there are no attention layers; ops.softmax(q @ k.mT * scale) @ v is the product"
_NO_BATCH_NORM = "nn.LayerNorm(features), over the features of each example; there is no batch normalization"
_LENGTHS = "not needed: layer(x, lengths=lengths) leaves the padding out; data.pad_sequence pads"

#: Of `nn`.
NN = {
    "functional": "ops: ops.relu(x), ops.cross_entropy(logits, targets), …",
    "utils": "optim.clip_gradient_norm(parameters, max_norm), and layer(x, lengths=lengths) for packed sequences",
    **dict.fromkeys("Dense LazyLinear".split(), "nn.Linear(in_features, out_features), with both sizes"),
    "Bilinear": "ops.einsum('bi,ijk,bj->bk', x, W, y)",
    "SimpleRNN": "nn.RNN(input_size, hidden_size)",
    "RNNBase": "nn.Recurrent",
    "Bidirectional": "nn.GRU(input_size, hidden_size, bidirectional=True)",
    "TimeDistributed": "not needed: nn.Linear acts on the last axis of (time, batch, features)",
    "Masking": _LENGTHS,
    "PackedSequence": _LENGTHS,
    "Activation": "a function, such as ops.tanh, which nn.Sequential takes as a layer",
    "Lambda": "a function, which nn.Sequential takes as a layer",
    **dict.fromkeys("Input InputLayer".split(), "not needed: the layers are made with their sizes"),
    "Model": "nn.Module, with layers as attributes and forward",
    "Layer": "nn.Module, with parameters as attributes and forward",
    "Concatenate": "ops.concatenate([a, b], axis=-1)",
    **dict.fromkeys("Reshape Unflatten".split(), "a function: lambda x: x.reshape(…)"),
    "RepeatVector": "a function: lambda x: ops.repeat(x[:, None], n, axis=1)",
    "GaussianNoise": "a module whose forward adds scale * randn(*x.shape) if self.training",
    "LayerNormalization": "nn.LayerNorm(features)",
    "RMSNorm": "a function: lambda x: x / (x.square().mean(axis=-1, keepdims=True) + 1e-6).sqrt()",
    **dict.fromkeys("GroupNorm BatchNormalization BatchNorm1d BatchNorm2d InstanceNorm1d".split(), _NO_BATCH_NORM),
    **dict.fromkeys(["Dropout1d", "Dropout2d", "SpatialDropout1D", "AlphaDropout"], "nn.Dropout(p)"),
    **dict.fromkeys(["Conv1d", "Conv2d", "Conv3d", "ConvTranspose2d", "Conv1D", "Conv2D"], _NO_CONVOLUTION),
    **dict.fromkeys(["MaxPool1d", "MaxPool2d", "AvgPool1d", "AvgPool2d", "AdaptiveAvgPool1d"], _NO_POOLING),
    **dict.fromkeys(["GlobalAveragePooling1D", "GlobalMaxPooling1D"], _NO_POOLING),
    **dict.fromkeys(["Transformer", "TransformerEncoder", "TransformerEncoderLayer"], _NO_ATTENTION),
    **dict.fromkeys(["MultiheadAttention", "MultiHeadAttention", "Attention"], _NO_ATTENTION),
    "EmbeddingBag": "nn.Embedding(n, features), and .sum(axis=1) or .mean(axis=1) of its output",
    "ParameterList": "a list of nn.Parameter(…) as an attribute: it is registered",
    "ParameterDict": "a dict of nn.Parameter(…) as an attribute: it is registered",
    "Buffer": "Tensor(data) as an attribute: it is a buffer",
    **dict.fromkeys("parallel DataParallel DistributedDataParallel".split(), _PARALLEL),
    "PReLU": "nn.LeakyReLU(slope), with a slope that is not learned",
    "Mish": "a function: lambda x: x * ops.tanh(ops.softplus(x))",
    "GLU": "a function: lambda x: x[..., :n] * ops.sigmoid(x[..., n:])",
    "CosineSimilarity": FORMULAS["cosine_similarity"],
    **dict.fromkeys(["CTCLoss", "CosineEmbeddingLoss", "TripletMarginLoss"], "nothing: a loss is a function of ops"),
    "LogSigmoid": "ops.log_sigmoid(x)",
    "ReLU6": "ops.clip(x, low=0.0, high=6.0)",
    "Hardtanh": "ops.clip(x, low=-1.0, high=1.0)",
    "Swish": "nn.SiLU()",
    "BCELoss": "nn.BCEWithLogitsLoss() of logits, without a sigmoid before it",
    "BinaryCrossentropy": "nn.BCEWithLogitsLoss() of logits, without a sigmoid before it",
    "SmoothL1Loss": "nn.HuberLoss(), the same at beta=1",
    "KLDivLoss": "ops.kl_divergence(log_q, p)",
    "LinearCrossEntropyLoss": "ops.linear_cross_entropy(x, W, targets)",
    "CategoricalCrossentropy": "nn.CrossEntropyLoss() of logits, without a softmax before it",
    "SparseCategoricalCrossentropy": "nn.CrossEntropyLoss() of logits, without a softmax before it",
    "MeanSquaredError": "nn.MSELoss()",
    "MeanAbsoluteError": "nn.L1Loss()",
    "Huber": "nn.HuberLoss()",
}

#: Of a Module.
MODULE = {
    "register_forward_hook": "a subclass with another forward; nn.summary(model, x) has the shapes of outputs",
    "register_forward_pre_hook": "a subclass with another forward",
    "register_full_backward_hook": "tensor.register_hook(function) of an output",
    "add": "m.append(layer), of a Sequential",
    "register_module": "m.add_module(name, module), or an attribute",
    "get_parameter": "dict(m.named_parameters())[path]",
    **dict.fromkeys("get_submodule get_layer".split(), "dict(m.named_modules())[path]"),
    "bfloat16": "m.astype('bfloat16'), or train.mixed_precision(m, 'bfloat16') to train",
    "type": "m.astype('float64')",
    "compile": "not needed: train.fit(m, loss, data, optimizer='adam') takes loss and optimizer",
    "fit": "train.fit(m, loss, data, epochs=10)",
    "evaluate": "train.evaluate(m, loss, data)",
    "predict": "train.predict(m, data)",
    "summary": "nn.summary(m, x)",
    "count_params": "m.parameter_count()",
    "get_weights": "m.state_dict(), arrays by name",
    "set_weights": "m.load_state_dict(state), arrays by name",
    "in_features": "m.W.shape[0], of a Linear",
    "out_features": "m.W.shape[1], of a Linear",
    "num_embeddings": "m.W.shape[0], of an Embedding",
    "embedding_dim": "m.W.shape[1], of an Embedding",
    **dict.fromkeys("trainable_variables trainable_weights".split(), "m.parameters()"),
    "predict_proba": "ops.softmax(train.predict(m, data)), of logits",
    "score": "train.evaluate(m, loss, data, metrics=['accuracy'])",
    "get_params": "print(m); there are no parameters to search over",
    **dict.fromkeys("input_shape output_shape".split(), "nn.summary(m, x), which has the shapes"),
    **dict.fromkeys("to_json get_config".split(), "nothing: a model is its code; its weights are m.state_dict()"),
    "weights": "m.named_tensors()",
    "layers": "m.children(), or m.named_children()",
    **dict.fromkeys("save save_weights".split(), "save(m.state_dict(), 'model.safetensors')"),
    "load_weights": "m.load_state_dict(load('model.safetensors'))",
}

#: Of layers: other names of their weights, which are not assigned either.
LINEAR = {
    "weight": "W (in_features, out_features), the transpose of PyTorch's weight",
    "kernel": "W (in_features, out_features)",
    "bias": "b (out_features,)",
}
TIED_LINEAR = {"weight": "W (num_embeddings, embedding_dim)", "bias": "b (num_embeddings,)"}
EMBEDDING = {"weight": "W (num_embeddings, embedding_dim)", "embeddings": "W (num_embeddings, embedding_dim)"}
#: Of recurrent layers.
RECURRENT = {
    **MODULE,
    "all_weights": "list(m.parameters())",
    "flatten_parameters": "not needed: leave the call out",
    "proj_size": "m.cells[0].proj_size, an LSTM's",
    "nonlinearity": "m.cells[0].activation",
    "units": "hidden_size",
    **dict.fromkeys(
        ["reset_state", "reset_states", "hidden"],
        "not needed: no layer keeps a state; m(x) starts anew, m(x, state) goes on",
    ),
    "get_weights": "m.state_dict(), arrays by name; interop.keras.weights(m) has Keras's layout",
    "set_weights": "m.load_state_dict(state), arrays by name; interop.keras.load(m, arrays) takes Keras's layout",
    "kernel": "W of a gate: m.cells[0].W_h, …",
    "recurrent_kernel": "U of a gate: m.cells[0].U_h, …",
    "φ": "activation",
    "σ": "gate_activation",
    "ψ": "output_activation",
}

_START = "a start of its own, afterwards: m.W[:] = nn.init.xavier_uniform(*m.W.shape) under no_grad()"
_NO_SUCH_GRADIENT = "nothing: the gradient of an embedding is dense, and its rows are as long as they are"
#: Of keywords with which modules are made.
KEYWORDS = {
    "activation": "a layer after it, in nn.Sequential: nn.Linear(3, 4), nn.ReLU()",
    "use_bias": "bias",
    "units": "the second size: nn.Linear(in_features, out_features)",
    "input_dim": "the first size, by position",
    "output_dim": "the second size, by position",
    "input_shape": "the first size: nn.Linear(in_features, out_features)",
    "input_length": "not needed: sequences of any length",
    "mask_zero": "given to the recurrent layer: layer(x, mask=ids != 0); padding_idx=0 keeps the row at 0",
    "rate": "p",
    "epsilon": "eps",
    "inplace": "not needed: recorded values are never overwritten",
    "normalized_shape": "features",
    "elementwise_affine": "always there; ops.layer_norm(x) has no weight and bias",
    "negative_slope": "slope",
    **dict.fromkeys(["kernel_initializer", "bias_initializer", "embeddings_initializer"], _START),
    **dict.fromkeys(
        ["kernel_regularizer", "activity_regularizer"], "the optimizer's weight_decay, or a term of the loss"
    ),
    **dict.fromkeys(["max_norm", "scale_grad_by_freq", "sparse"], _NO_SUCH_GRADIENT),
    "name": "not needed: a layer is named after the attribute that it is assigned to",
    "trainable": "m.freeze(), after the layer is made",
    "from_logits": "not needed: losses take logits",
    "size_average": "reduction='mean' or 'sum'",
    "beta": "delta",
}
#: Of keyword arguments of a call of a module.
ARGUMENTS = {
    "training": "a mode of the module: m.train() or m.eval() before the call",
    **dict.fromkeys("input inputs".split(), "the first argument, by position"),
}

#: Of `nn.init`, whose functions return arrays.
INIT = {
    "zeros_": "m.b[:] = 0.0 under no_grad()",
    "ones_": "m.W[:] = 1.0 under no_grad()",
    "constant_": "m.W[:] = value under no_grad()",
    "eye_": "m.W[:] = np.eye(n) under no_grad()",
    "uniform_": "m.W[:] = nn.init.uniform(*m.W.shape, bound=0.1) under no_grad()",
    "normal_": "m.W[:] = nn.init.normal(*m.W.shape, scale=0.1) under no_grad()",
    "trunc_normal_": "m.W[:] = nn.init.normal(*m.W.shape, scale=0.02).clip(-0.04, 0.04) under no_grad()",
    "xavier_uniform_": "m.W[:] = nn.init.xavier_uniform(*m.W.shape) under no_grad()",
    "xavier_normal_": "m.W[:] = nn.init.xavier_normal(*m.W.shape) under no_grad()",
    "kaiming_uniform_": "m.W[:] = nn.init.he_uniform(*m.W.shape) under no_grad()",
    "kaiming_normal_": "m.W[:] = nn.init.he_normal(*m.W.shape) under no_grad()",
    "orthogonal_": "m.W[:] = nn.init.orthogonal(*m.W.shape) under no_grad()",
    "kaiming_uniform": "nn.init.he_uniform(fan_in, fan_out)",
    "kaiming_normal": "nn.init.he_normal(fan_in, fan_out)",
    "glorot_uniform": "nn.init.xavier_uniform(fan_in, fan_out)",
    "glorot_normal": "nn.init.xavier_normal(fan_in, fan_out)",
    "calculate_gain": "the number: 5/3 for tanh, 2 ** 0.5 for relu, 1 for sigmoid and none",
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
    "LambdaLR": "a class: `class Mine(optim.Schedule):` with `def factor(self, t): return …`",
    **dict.fromkeys("LearningRateSchedule LRScheduler".split(), "optim.Schedule"),
    "clip_grad_norm_": "optim.clip_gradient_norm(parameters, max_norm)",
    "clip_grad_value_": "optim.clip_gradient_value(parameters, max_value)",
    **dict.fromkeys(
        "Adadelta Adafactor Adamax Ftrl Lamb Lion Muon NAdam Nadam RAdam Rprop SparseAdam".split(),
        "optim.Adam or optim.AdamW; an optimizer of your own is its rule, a few lines: help(optim.Optimizer)",
    ),
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
