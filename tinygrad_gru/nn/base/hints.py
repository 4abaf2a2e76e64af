"""Hints: what to write here instead of a name of PyTorch, Keras or Flax that has to do with modules."""

from __future__ import annotations

from ...hints import FORMULAS, PARALLEL

_NO_CONVOLUTION = "nothing: there are no convolutions; data.windows and nn.Linear act on windows of a series"
_NO_POOLING = "a reduction over an axis: x.mean(axis=1), x.max(axis=1)"
_NO_ATTENTION = "nothing: there are no attention layers; ops.softmax(q @ k.mT * scale) @ v is the product"
_NO_BATCH_NORM = "nn.LayerNorm(features), over the features of each example; there is no batch normalization"
_LENGTHS = "not needed: layer(x, lengths=lengths) leaves the padding out; data.pad_sequence pads"

#: Of `nn`, beside the names of `ops`.
NN = {
    **dict.fromkeys("compact Rngs".split(), "not needed: layers are attributes made in __init__; manual_seed(seed)"),
    **dict.fromkeys("scan remat".split(), "a function of the package: scan(step, carry, xs), remat(module, x)"),
    "PositionalEncoding": "a constant that is added: x + Tensor(np.sin(position * frequency))",
    **dict.fromkeys("Mamba S4 S5".split(), "nothing of that name: nn.LRU and nn.MinGRU are linear recurrences"),
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
    **dict.fromkeys(
        "Transformer TransformerEncoder TransformerEncoderLayer TransformerDecoder TransformerDecoderLayer".split(),
        _NO_ATTENTION,
    ),
    **dict.fromkeys(["MultiheadAttention", "MultiHeadAttention", "Attention"], _NO_ATTENTION),
    "EmbeddingBag": "nn.Embedding(n, features), and .sum(axis=1) or .mean(axis=1) of its output",
    "ParameterList": "a list of nn.Parameter(…) as an attribute: it is registered",
    "ParameterDict": "a dict of nn.Parameter(…) as an attribute: it is registered",
    "Buffer": "Tensor(data) as an attribute: it is a buffer",
    **dict.fromkeys("parallel DataParallel DistributedDataParallel".split(), PARALLEL),
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
    "device": "next(m.parameters()).device",
    "dtype": "next(m.parameters()).dtype",
    **dict.fromkeys("params variables".split(), "m.parameters(), or m.named_tensors() with the buffers"),
    "init": "not needed: the weights are there once m is made; manual_seed(seed) before it",
    **dict.fromkeys("apply_fn call".split(), "a call: m(x), which runs m.forward"),
    "module": "m itself: nothing is wrapped around it, on several ranks either",
    "no_sync": "not needed: gradients are summed by step()",
    "share_memory": "not needed: ranks are processes with weights of their own, which stay equal",
    "num_parameters": "m.parameter_count()",
    "backward": "loss.backward()",
    "grad": "p.grad, of a parameter p",
    **dict.fromkeys("training_step configure_optimizers".split(), "train.fit(m, loss, data, optimizer='adam')"),
    "build": "not needed: the layers are made with their sizes",
    "tabulate": "nn.summary(m, x)",
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
