"""Hints: what to write here instead of a name of Keras or PyTorch that has to do with training."""

from __future__ import annotations

from collections.abc import Callable
from inspect import signature
from typing import Any

#: Of `train`.
TRAIN = {
    "plot_loss": "show.loss(runs, path=…)",
    "EarlyStopping": "train.fit(…, validation=…, patience=3), which restores the best weights too",
    "ModelCheckpoint": "train.fit(…, folder='runs/1'), which keeps the best and the last; keep_last=3 for more",
    "CSVLogger": "train.CSVLog(path)",
    "SummaryWriter": "train.TensorBoard(folder)",
    "LearningRateScheduler": "train.fit(…, schedule=optim.WarmupCosine), or another schedule of optim",
    "ReduceLROnPlateau": "train.fit(…, validation=…, schedule=optim.ReduceOnPlateau(optimizer))",
    "LearningRateFinder": "train.find_lr(model, loss, data)",
    "lr_find": "train.find_lr(model, loss, data)",
    "TerminateOnNaN": "not needed: a loss that is not finite raises train.TrainingError",
    "AveragedModel": "train.WeightAverage(decay=None)",
    "EMA": "train.WeightAverage(decay=0.999)",
    "SWA": "train.WeightAverage(decay=None, start=…)",
    "GradScaler": "train.fit(…, precision='float16'), or train.LossScaler in a loop of your own",
    "autocast": "train.fit(…, precision='float16'), or train.mixed_precision(model, 'float16')",
    "BinaryAccuracy": "train.Accuracy(threshold=0) of logits, by name 'binary_accuracy'",
    "CategoricalAccuracy": "train.Accuracy()",
    "SparseCategoricalAccuracy": "train.Accuracy()",
    "TopKCategoricalAccuracy": "train.TopK(k)",
    "MeanAbsoluteError": "train.MAE()",
    "MeanSquaredError": "train.MSE()",
    "RootMeanSquaredError": "train.RMSE()",
    "R2Score": "train.R2()",
    **dict.fromkeys(["F1Score", "Precision", "Recall"], "train.ConfusionMatrix(), whose value is the macro F1"),
    "score": "train.evaluate(model, loss, (x, y), metrics=['accuracy'])",
    "load_model": "a model made anew, then model.load_state_dict(load('model.safetensors'))",
    **dict.fromkeys("test validate".split(), "train.evaluate(model, loss, data)"),
    "DataLoader": "data.ArrayBatches(x, y, batch_size, seed); train.fit takes PyTorch's, too",
    "load": "load(path) of the package for weights; train.fit(…, folder='runs/1', resume=True) for a run",
    "save": "save(model.state_dict(), path), of the package",
    **dict.fromkeys(
        "WandbLogger MLFlowLogger wandb".split(), "a Callback of a few lines, with on_step_end(self, loop, record)"
    ),
    "tqdm": "progress=True, of train.fit",
    "LearningRateMonitor": "not needed: history['lr'] has it",
    "GradientAccumulationScheduler": "train.fit(…, accumulate=…)",
    "seed_everything": "manual_seed(seed), of the package",
    "F1": "train.ConfusionMatrix(), whose value is the macro F1",
    "AUROC": "a function of sklearn on train.predict(model, x)",
    "classification_report": "train.ConfusionMatrix(), or a function of sklearn on train.predict(model, x)",
    **dict.fromkeys(
        "TrainState create_train_state train_step".split(), "train.fit(model, loss, data): the model holds its weights"
    ),
    **dict.fromkeys(
        "KFold cross_val_score CrossValidation".split(), "a loop over the parts of data.split(count, fractions, seed)"
    ),
    "GridSearchCV": "a loop of your own over settings of train.fit",
    "TrainingArguments": "arguments of train.fit: epochs, lr, folder, resume, parallel, …",
    "Accelerator": "train.fit(…, parallel='mpi'), under mpiexec -n 4",
    "train_test_split": "data.split(count, fractions, seed), which gives the indices of each part",
}

#: Of the arguments of `fit`.
FIT = {
    "learning_rate": "lr=…",
    "validation_data": "validation=(x, y)",
    "validation_split": "validation=0.1, a fraction of the arrays",
    "shuffle": "seed=0 to shuffle arrays, seed=None not to",
    "verbose": "progress=True or False",
    "max_epochs": "epochs=…",
    "num_epochs": "epochs=…",
    "max_steps": "steps=…",
    "steps_per_epoch": "steps=…, of the whole run, or epochs=…",
    "gradient_clip_val": "clip_norm=…",
    "max_grad_norm": "clip_norm=…",
    "clipnorm": "clip_norm=…",
    "accumulate_grad_batches": "accumulate=…",
    "gradient_accumulation_steps": "accumulate=…",
    "early_stopping": "patience=3, with validation=…",
    "stateful": "carry_state=True",
    "class_weight": "the loss as nn.CrossEntropyLoss(weight=[1.0, 2.0]), a weight for each class",
    "sample_weight": "the weights as a second target, y = np.stack([y, w], 1), and a loss of your own that uses them",
    "initial_epoch": "folder='runs/1', and resume=True to go on",
    **dict.fromkeys(
        "workers num_workers dataloader_num_workers".split(),
        "nothing: batches are made in this process; PyTorch's DataLoader may have workers",
    ),
    **dict.fromkeys(
        "strategy distributed world_size num_nodes nproc nproc_per_node num_processes local_rank".split(),
        "parallel='mpi', and the number of processes to mpiexec -n",
    ),
    "devices": "parallel='mpi', and mpiexec -n for processes; a GPU is the model's: model.to('cupy')",
    **dict.fromkeys("accelerator device backend".split(), "nothing: the model is there already; model.to('cupy')"),
    **dict.fromkeys(
        "resume_from_checkpoint resume_from ckpt_path load_path autoresume".split(),
        "folder='runs/1', and resume=True to go on",
    ),
    **dict.fromkeys("output_dir save_folder default_root_dir save_dir logdir".split(), "folder='runs/1'"),
    **dict.fromkeys(
        "save_steps save_interval checkpoint_interval".split(),
        "folder='runs/1': a checkpoint every minute, after evaluations and at a stop; keep_last=3 for more",
    ),
    **dict.fromkeys("max_time max_duration".split(), "seconds=…, or epochs=…, steps=…"),
    **dict.fromkeys("overwrite save_overwrite".split(), "a new folder, or resume=True to go on in the old one"),
    **dict.fromkeys("gpus n_gpus".split(), "nothing: the model is there already; model.to('cupy')"),
    **dict.fromkeys("grad_clip gradient_clip clip".split(), "clip_norm=…"),
    **dict.fromkeys("amp fp16 mixed_precision".split(), "precision='float16'"),
    "weight_decay": "optimizer=optim.AdamW(model.parameters(), lr=…, weight_decay=…)",
    "logger": "callbacks=[train.CSVLog(path)], or train.TensorBoard(folder)",
    "checkpoint_dir": "folder='runs/1'",
    **dict.fromkeys("dataloader train_loader train_dataloader train_data".split(), "data, by position"),
    **dict.fromkeys(
        "eval_every val_check_interval eval_steps".split(), "nothing: validation=… is evaluated after each epoch"
    ),
    **dict.fromkeys("val_loader valid_loader eval_dataset val_dataloaders".split(), "validation=…"),
    **dict.fromkeys("early_stopping_patience early_stopping_rounds".split(), "patience=…, with validation=…"),
    **dict.fromkeys("compile jit".split(), "not needed: recurrences are compiled; compiling(False) turns it off"),
    **dict.fromkeys(
        "log_every log_interval".split(), "nothing: each step is in the history, and in log.jsonl of folder"
    ),
    "bs": "batch_size=…",
    "logging_steps": "nothing: each step is in log.jsonl of folder, and in the history",
    "x": "data=(x, y)",
    "y": "data=(x, y)",
}

#: Of the arguments of `evaluate` and `predict`.
APPLY = {
    "verbose": "nothing: it prints nothing",
    "callbacks": "nothing: there are no events here",
    "steps": "fewer batches as data",
    "sample_weight": "a loss of your own that uses them",
    "return_dict": "nothing: the result is a dictionary",
    "x": "data=(x, y)",
    "y": "data=(x, y)",
}

#: Of a History.
HISTORY = {
    "history": "history['loss'] of steps, ['validation_loss'] of evaluations; history.epochs: a record per epoch",
    "params": "history.names, and history['loss'], an array",
    "epoch": "history.epochs, a record per epoch, or history['epoch'], an array",
    "best_epoch": "history.best['epoch'], from 0",
    "keys": "history.names",
    **dict.fromkeys("loss losses".split(), "history['loss'], an array"),
    "to_frame": "pandas.DataFrame(history.epochs)",
    "best_loss": "history.best['validation_loss']",
    **dict.fromkeys(["items", "values"], "history[name] for name in history.names"),
}

#: Of losses by name, which are functions here.
LOSSES = {
    **dict.fromkeys("mean_squared_error MSE".split(), "ops.mse"),
    **dict.fromkeys("mean_absolute_error MAE l1".split(), "ops.mae"),
    **dict.fromkeys(
        "categorical_crossentropy sparse_categorical_crossentropy crossentropy".split(),
        "ops.cross_entropy, which takes logits: no softmax before it",
    ),
    **dict.fromkeys(
        "binary_crossentropy bce binary_cross_entropy".split(),
        "ops.binary_cross_entropy_with_logits, which takes logits: no sigmoid before it",
    ),
    "kl_divergence": "ops.kl_divergence",
    "huber_loss": "ops.huber",
}

#: Of metrics by name.
METRICS = {
    **dict.fromkeys("acc categorical_accuracy sparse_categorical_accuracy".split(), "'accuracy'"),
    **dict.fromkeys("mean_absolute_error MAE".split(), "'mae'"),
    **dict.fromkeys("mean_squared_error MSE".split(), "'mse'"),
    **dict.fromkeys("root_mean_squared_error RMSE".split(), "'rmse'"),
    **dict.fromkeys("f1 f1_score precision recall".split(), "train.ConfusionMatrix(), whose value is the macro F1"),
    "auc": "a function of sklearn on train.predict(model, x)",
}

#: Of a Callback: events.
CALLBACK = {
    "on_batch_end": "on_step_end(self, loop, record)",
    "on_train_batch_end": "on_step_end(self, loop, record)",
    "on_test_end": "on_evaluation_end(self, loop, record)",
    "on_validation_end": "on_evaluation_end(self, loop, record)",
    "on_validation_epoch_end": "on_evaluation_end(self, loop, record)",
    "on_train_epoch_end": "on_epoch_end(self, loop, record)",
    "on_after_backward": "on_gradients(self, loop)",
    "on_before_optimizer_step": "on_gradients(self, loop)",
}


_TARGETS = frozenset(["y_true", "y", "true", "target", "targets", "label", "labels"])
_OUTPUTS = frozenset(["y_pred", "y_hat", "y_prob", "y_score", "pred", "preds", "prediction", "predictions", "outputs"])


def check_order(what: str, function: Callable[..., Any]) -> None:
    """Raise TypeError for a function (y_true, y_pred), the order of Keras and scikit-learn: here the outputs are first.

    A mean of squares would not change, nor would anything tell that the rest is wrong.
    """
    first, second, *_ = [*_parameters(function), "", ""]
    if first in _TARGETS and second in _OUTPUTS:
        name = getattr(function, "__name__", "function")
        name = name if name.isidentifier() else "function"
        raise TypeError(
            f"{what}: {name}({first}, {second}) takes the targets first, and is called with the outputs first: write "
            f"lambda outputs, targets: {name}(targets, outputs), or exchange the two"
        )


def check_event(owner: str, event: str, function: Callable[..., Any]) -> None:
    """Raise TypeError for an event whose first argument is called as Keras's is: here it is the loop."""
    first = next(iter([name for name in _parameters(function) if name != "self"]), "")
    if first in ("epoch", "batch", "logs"):
        raise TypeError(
            f"{owner}: {event} is called with the loop, and here its first argument is {first!r}: write "
            f"{event}(loop, record), where loop.epoch counts from 0 and the record has the losses by name"
            if event in ("on_epoch_end", "on_step_end", "on_evaluation_end")
            else f"{owner}: {event} is called with the loop alone, and here its first argument is {first!r}: write "
            f"{event}(loop), where loop.epoch counts from 0 and loop.history has all records"
        )


def check_schedule(function: Callable[..., Any]) -> None:
    """Raise TypeError for a function of one argument, such as the step or the epoch, as a schedule."""
    if not isinstance(function, type) and len(_parameters(function)) == 1:
        raise TypeError(
            "schedule: expected a class such as optim.WarmupCosine, or a function (optimizer, total_steps) → schedule, "
            "got a function of one argument; factors of your own are a class: `class Mine(optim.Schedule):` with "
            "`def factor(self, t): return …` of the step t, and schedule=Mine(optimizer)"
        )


def _parameters(function: Callable[..., Any]) -> list[str]:
    try:
        return list(signature(function).parameters)
    except (TypeError, ValueError):  # of a function in C
        return []
