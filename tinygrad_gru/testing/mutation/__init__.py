"""Mutation testing of the op contract: `scores` runs it, `operators` are the ways in which a rule is made wrong."""

from __future__ import annotations

from .scores import Mutant, MutationScore, mutants, mutation_scores, ops_with_rules

__all__ = ["Mutant", "MutationScore", "mutants", "mutation_scores", "ops_with_rules"]
