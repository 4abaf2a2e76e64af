"""Clusters: the operations of a level, grouped into loop nests or kernels.

Elementwise operations of one shape share a nest of loops over rows and columns (a kernel on a GPU), in which each finds
in a register what another has computed. Any other operation is a cluster of its own.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from typing import Literal, NamedTuple

from ..ir import Value
from .schedule import ELEMENTWISE, Level, base_of
from .storage import SCRATCH, Plan


class Task(NamedTuple):
    """Computing a value, or copying it into the next carry at a position."""

    kind: Literal["compute", "copy"]
    value: Value
    position: int = 0

    @property
    def inputs(self) -> tuple[Value, ...]:
        return self.value.inputs if self.kind == "compute" else (self.value,)

    @property
    def is_elementwise(self) -> bool:
        return self.kind == "copy" or self.value.op in ELEMENTWISE


class Cluster:
    """Tasks that run together: elementwise ones of one shape, or a single other one.

    stored  the values computed here that must be written to memory, since they are used outside of the cluster
    """

    def __init__(self) -> None:
        self.tasks: list[Task] = []
        self.stored: set[Value] = set()

    @property
    def is_nest(self) -> bool:
        return self.tasks[0].is_elementwise

    @property
    def shape(self) -> tuple[int, ...]:
        return self.tasks[0].value.shape


def clusters(plan: Plan, copies: Mapping[int, Value], level: Level = "loop") -> list[Cluster]:
    """The tasks of a level in clusters, in order of execution.

        v0 = carry(position=0)                       (2, 4) float32
        v1 = x(position=0)                           (2, 4) float32
        v2 = constant(position=0)                    (4, 4) float32
        v3 = matmul(v0, v2)                          (2, 4) float32    call 0, stored
        v4 = add(v1, v3)                             (2, 4) float32    nest 1
        v5 = tanh(v4)                                (2, 4) float32    nest 1, stored
        v6 = multiply(v5, v0)                        (2, 4) float32    nest 1, stored
        v7 = matmul(v6, v2)                          (2, 4) float32    call 2, stored
        v8 = exp(v7)                                 (2, 4) float32    nest 3
        v9 = add(v5, v8)                             (2, 4) float32    nest 3, stored
        carry v0 -> v9; xs v1

    copies  the values that are copied into the next carry, by position
    """
    level_tasks = _LevelTasks(
        plan,
        level,
        [Task("compute", value) for value in plan.operations(level)],
        [Task("copy", value, position) for position, value in copies.items()],
    )
    depth = _depths(level_tasks)
    found: dict[tuple, Cluster] = defaultdict(Cluster)
    for task in level_tasks.computing:
        alone_or_shape = task.value.shape if task.is_elementwise else task.value
        found[depth[task.value], task.is_elementwise, alone_or_shape].tasks.append(task)
    for task in level_tasks.copying:
        begin, shape = level_tasks.earliest(task, depth), task.value.shape
        nests = [key for key in found if key[1] and key[2] == shape and key[0] >= begin]
        found[min(nests, default=(begin, True, shape))].tasks.append(task)
    result = [found[key] for key in sorted(found, key=lambda key: key[:2])]
    for cluster in result:
        cluster.stored.update(level_tasks.stored_by(cluster))
    return result


class _LevelTasks:
    """The tasks of a level, and the users of each base."""

    def __init__(self, plan: Plan, level: Level, computing: list[Task], copying: list[Task]):
        self.plan, self.level, self.computing, self.copying = plan, level, computing, copying
        self.inputs, self.concats = plan.program.inputs, plan.concats
        self.users: dict[Value, list[Task]] = defaultdict(list)
        for task in (*computing, *copying):
            for base in self.bases(task):
                self.users[base].append(task)

    def bases(self, task: Task) -> set[Value]:
        return {base_of(operand, self.inputs) for operand in task.inputs}

    def is_in_register(self, base: Value, task: Task) -> bool:
        """Whether the task, in one nest with the operation that computes `base`, needs nothing but the same element."""
        is_computed_here = base not in self.inputs and self.plan.levels.get(base) == self.level
        if not (is_computed_here and base.op in ELEMENTWISE and task.is_elementwise and base.shape == task.value.shape):
            return False
        return all(operand is base for operand in task.inputs if base_of(operand, self.inputs) is base)

    def available(self, base: Value, depth: Mapping[Value, int]) -> int:
        """The depth at which the memory of a base is complete; −1 if it is before the level begins."""
        if base in self.concats:
            return max(self.available(base_of(part, self.inputs), depth) for part in base.inputs)
        return depth.get(base, -1)

    def earliest(self, task: Task, depth: Mapping[Value, int]) -> int:
        """The smallest depth at which a task can be done: that of its operands, or the next if it reads memory."""
        after = (self.available(base, depth) + (not self.is_in_register(base, task)) for base in self.bases(task))
        return max(after, default=0)

    def stored_by(self, cluster: Cluster) -> set[Value]:
        """The values of a cluster that others read from memory."""
        stored = set()
        for task in cluster.tasks:
            value, users = task.value, self.users[task.value]
            is_local = all(user in cluster.tasks and self.is_in_register(value, user) for user in users)
            is_local = is_local and self.plan.storage_of(value) == SCRATCH[self.level] and value not in self.plan.parts
            if task.kind == "compute" and not is_local:
                stored.add(value)
        return stored


def _depths(level_tasks: _LevelTasks) -> dict[Value, int]:
    """The position of each operation in the order of clusters.

    As soon as possible; what does not depend on the carry as late as possible, where it is first used.
    """
    plan, depth = level_tasks.plan, dict[Value, int]()
    for task in level_tasks.computing:
        depth[task.value] = level_tasks.earliest(task, depth)
    in_carry = plan.program.depending_on(plan.program.carry)
    for task in reversed(level_tasks.computing):
        value = task.value
        users = [user for user in level_tasks.users[value] if user.kind == "compute"]
        if task.is_elementwise and value not in in_carry and value not in plan.parts and users:
            depth[value] = min(depth[user.value] - (not level_tasks.is_in_register(value, user)) for user in users)
    return depth
