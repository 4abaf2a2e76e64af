"""Hints: what to write here instead of a name of Keras or PyTorch that has to do with training."""

#: Of `train`.
TRAIN = {
    "EarlyStopping": "train.fit(…, validation=…, patience=3), which restores the best weights too",
    "ModelCheckpoint": "train.fit(…, folder='runs/1'), which keeps the best and the last; keep_last=3 for more",
    "BackupAndRestore": "train.fit(…, folder='runs/1', resume=True)",
    "CSVLogger": "train.CSVLog(path)",
    "SummaryWriter": "train.TensorBoard(folder)",
    "LearningRateScheduler": "train.fit(…, schedule=optim.WarmupCosine), or another schedule of optim",
    "ReduceLROnPlateau": "train.fit(…, validation=…, schedule=optim.ReduceOnPlateau(optimizer))",
    "LearningRateFinder": "train.find_lr(model, loss, data)",
    "LRFinder": "train.find_lr(model, loss, data)",
    "lr_find": "train.find_lr(model, loss, data)",
    "ProgbarLogger": "train.fit(…, progress=True)",
    "TerminateOnNaN": "not needed: a loss that is not finite raises train.TrainingError",
    "AveragedModel": "train.WeightAverage(decay=None)",
    "EMA": "train.WeightAverage(decay=0.999)",
    "SWA": "train.WeightAverage(decay=None, start=…)",
    "StochasticWeightAveraging": "train.WeightAverage(decay=None, start=…)",
    "GradientAccumulationScheduler": "train.fit(…, accumulate=4)",
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
    "F1Score": "train.ConfusionMatrix(), whose value is the macro F1",
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
    "class_weight": "ops.cross_entropy(…, weight=…) in the loss",
    "x": "data=(x, y)",
    "y": "data=(x, y)",
}

#: Of a History.
HISTORY = {"history": "history['loss'], an array", "params": "history.names, and history['loss'], an array"}

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
