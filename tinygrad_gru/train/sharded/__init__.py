"""Training on several ranks: batches cut into micro-shards, whose gradients, losses and metrics are summed over all."""

from .trainer import ShardedTrainer, make_trainer, ranks_for, ranks_of

__all__ = ["ShardedTrainer", "make_trainer", "ranks_for", "ranks_of"]
