"""Exercises 4 to 6: a tape."""

from __future__ import annotations

import math

from ...draws import Formula, formulas, numbers, st
from ...exercise import exercise


def _evaluate_dual(solution, formula, a, da, b, db):
    result = formula(solution(a, da), solution(b, db))
    return {"value": result.value, "derivative": result.derivative}


@exercise(
    4,
    "A dual number",
    inputs=(
        formulas(
            *("lambda a, b: a + b", "lambda a, b: a * b", "lambda a, b: a.sin()", "lambda a, b: (a * b).sin()"),
            *("lambda a, b: a * a + b", "lambda a, b: a.sin() * b", "lambda a, b: (a + b) * a"),
            *("lambda a, b: a + a", "lambda a, b: b + a * b", "lambda a, b: a.sin() + a", "lambda a, b: (a + b) * b"),
        ),
        *(numbers, numbers, numbers, numbers),
    ),
    example=(Formula("lambda a, b: a * b"), 2.0, 1.0, 3.0, 0.0),
    cases=[(Formula("lambda a, b: (a * b) * a"), 2.0, 1.0, 3.0, 0.5)],
    run=_evaluate_dual,
    call="({formula})(Dual({a}, {da}), Dual({b}, {db}))",
    header="import math",
    understood="A value and its derivative can travel together, forward, through any code: that is forward mode.",
    hints=[
        "Each method computes two things: the new value, and by a rule of calculus the new derivative.",
        "(a·b)′ = a′·b + a·b′. sin(a)′ = cos(a)·a′: the outer derivative times the inner one. Return a new Dual.",
    ],
)
class Dual:
    """A number and its derivative by some variable t: Dual(2.0, 1.0) is t itself at t = 2, Dual(3.0, 0.0) a constant.

    What is computed with such numbers is the value and the derivative of the result: (t · t).derivative is 4 there.
    """

    def __init__(self, value, derivative):
        self.value = value
        self.derivative = derivative

    def __add__(self, other):
        """Return self + other, as a new Dual."""
        return type(self)(self.value + other.value, self.derivative + other.derivative)

    def __mul__(self, other):
        """Return self · other."""
        derivative = self.derivative * other.value + self.value * other.derivative
        return type(self)(self.value * other.value, derivative)

    def sin(self):
        """Return sin(self)."""
        return type(self)(math.sin(self.value), math.cos(self.value) * self.derivative)


@Dual.check_with
def _(formula, a, da, b, db):
    class Sine(float):
        def sin(self):
            return Sine(math.sin(self))

        def __mul__(self, other):
            return Sine(float(self) * float(other))

        def __add__(self, other):
            return Sine(float(self) + float(other))

    def along(t):
        return float(formula(Sine(a + t * da), Sine(b + t * db)))

    return {"value": along(0.0), "derivative": (along(1e-5) - along(-1e-5)) / 2e-5}


@Dual.mistake(
    "(a·b)′ is not a′·b′", hint="Try t·t at t = 2: the derivative is 4, but the product of the derivatives is 1."
)
class _(Dual.reference):
    def __mul__(self, other):
        return type(self)(self.value * other.value, self.derivative * other.derivative)


@Dual.mistake(
    "one term of the product rule is missing", hint="Both factors may depend on t, so both derivatives contribute."
)
class _(Dual.reference):
    def __mul__(self, other):
        return type(self)(self.value * other.value, self.derivative * other.value)


@Dual.mistake(
    "sin(a)′ without the inner derivative a′",
    hint="Chain rule: if a does not move, sin(a) does not either, whatever cos(a) is.",
)
class _(Dual.reference):
    def sin(self):
        return type(self)(math.sin(self.value), math.cos(self.value))


@Dual.mistake("the derivative of sin is taken for −cos", hint="sin grows at 0: its derivative there is +1.")
class _(Dual.reference):
    def sin(self):
        return type(self)(math.sin(self.value), -math.cos(self.value) * self.derivative)


@Dual.mistake(
    "an operand was changed in place of making a new Dual",
    hint="a + b must leave a as it is: a may be used once more. Return a new Dual.",
)
class _(Dual.reference):
    def __add__(self, other):
        self.value, self.derivative = self.value + other.value, self.derivative + other.derivative
        return self


@Dual.mistake(
    "cos is taken of the derivative, not of the value",
    hint="cos(a)·a′: cos at the point where we are, then how fast we move.",
)
class _(Dual.reference):
    def sin(self):
        return type(self)(math.sin(self.value), math.cos(self.derivative) * self.derivative)


@st.composite
def tapes(draw):
    """A tape and its inputs: one to three numbers, and up to four records that point backward."""
    inputs = draw(st.lists(numbers, min_size=1, max_size=3))
    tape = []
    for count in range(len(inputs), len(inputs) + draw(st.integers(0, 4))):
        name = draw(st.sampled_from(["add", "multiply", "sin"]))
        positions = [draw(st.integers(0, count - 1)) for _ in range(1 if name == "sin" else 2)]
        tape.append((name, *positions))
    return tape, inputs


@exercise(
    5,
    "Replay a tape",
    inputs=tapes(),
    example=([("multiply", 0, 1), ("sin", 2)], [2.0, 3.0]),
    cases=[([("add", k, 0) for k in range(9)], [1.0])],
    header="import math",
    understood="A tape is a list of records in the order of execution; no graph is needed beside it.",
    hints=[
        "Begin with a copy of the inputs, and append one value a record: positions count in that growing list.",
        "name, *positions = record takes a record apart; then [values[p] for p in positions] are its operands.",
    ],
)
def replay(tape, inputs):
    """A tape is a list of records: ("add", i, j), ("multiply", i, j) or ("sin", i).

    i and j are positions in the list of all values so far: first the inputs, then the result of each record in turn.
    Compute them; return the list of all values, inputs first. `inputs` belongs to the caller: it must stay as it is.
    """
    values = list(inputs)
    for name, *positions in tape:
        operands = [values[position] for position in positions]
        if name == "add":
            values.append(operands[0] + operands[1])
        elif name == "multiply":
            values.append(operands[0] * operands[1])
        else:
            values.append(math.sin(operands[0]))
    return values


_COMPUTE = {"add": lambda a, b: a + b, "multiply": lambda a, b: a * b, "sin": math.sin}


def _value_at(tape, inputs, position):
    """The value at a position, by recursion."""
    if position < len(inputs):
        return inputs[position]
    name, *positions = tape[position - len(inputs)]
    return _COMPUTE[name](*(_value_at(tape, inputs, p) for p in positions))


@replay.check_with
def _(tape, inputs):
    return [_value_at(tape, inputs, position) for position in range(len(inputs) + len(tape))]


@replay.mistake(
    "the list of inputs itself is appended to",
    hint="`values = inputs` is a second name for one list. list(inputs) copies.",
)
def _(tape, inputs):
    inputs.extend(replay.reference(tape, inputs)[len(inputs) :])
    return inputs


@replay.mistake("only the last value came back", hint="Backward will need all of them: return the whole list.")
def _(tape, inputs):
    return replay.reference(tape, inputs)[-1]


@replay.mistake("the inputs are missing from the list", hint="Position 0 is the first input, not the first record.")
def _(tape, inputs):
    return replay.reference(tape, inputs)[len(inputs) :]


@replay.mistake(
    "operands are looked up among the inputs alone",
    hint="A record may use the result of an earlier record: its position is beyond the inputs.",
)
def _(tape, inputs):
    return [*inputs, *(_COMPUTE[name](*(inputs[p] for p in positions)) for name, *positions in tape)]


@st.composite
def replayed(draw):
    """A tape and all of its values."""
    tape, inputs = draw(tapes())
    return tape, replay.reference(tape, inputs)


@exercise(
    6,
    "Walk the tape backward",
    inputs=replayed(),
    example=([("multiply", 0, 1), ("add", 2, 0)], [2.0, 3.0, 6.0, 8.0]),
    header="import math",
    understood="One walk from the end gives the gradients of all values, at about the cost of computing them.",
    hints=[
        "Begin with zeros, and 1 for the last value. From the last record on, each hands its g on to its operands.",
        "add hands on g; multiply g times the other operand; sin g·cos. With +=: a value may be used twice.",
    ],
)
def backward(tape, values):
    """A tape, as in exercise 5 a list of ("add", i, j), ("multiply", i, j) and ("sin", i), and the list of all of its
    values: the inputs first, then one for each record; i and j are positions in it.

    Let L be the last value. Return the list of ∂L/∂value for every value, the last included (∂L/∂L = 1).
    """
    gradients = [0.0] * len(values)
    gradients[-1] = 1.0
    for position in range(len(values) - 1, len(values) - len(tape) - 1, -1):
        (name, *operands), g = tape[position - len(values)], gradients[position]
        if name == "add":
            gradients[operands[0]] += g
            gradients[operands[1]] += g
        elif name == "multiply":
            gradients[operands[0]] += g * values[operands[1]]
            gradients[operands[1]] += g * values[operands[0]]
        else:
            gradients[operands[0]] += g * math.cos(values[operands[0]])
    return gradients


@backward.check_with
def _(tape, values):
    count = len(values) - len(tape)

    def last(position, change):
        replayed = list(values[:count])
        for k in range(len(values)):
            if k >= count:
                name, *operands = tape[k - count]
                replayed.append(_COMPUTE[name](*(replayed[p] for p in operands)))
            replayed[k] += change if k == position else 0.0
        return replayed[-1]

    return [(last(k, 1e-5) - last(k, -1e-5)) / 2e-5 for k in range(len(values))]


def _walk(tape, values, positions=None, add=lambda old, new: old + new, seed=1.0, swap=False, of_result=False):
    """The reference with something wrong."""
    gradients = [0.0] * len(values)
    gradients[-1] = seed
    for position in positions or range(len(values) - 1, len(values) - len(tape) - 1, -1):
        (name, *operands), g = tape[position - len(values)], gradients[position]
        factors = {
            "add": (1.0, 1.0),
            "multiply": tuple(values[p] for p in (operands if swap else reversed(operands))),
            "sin": (math.cos(values[position if of_result else operands[0]]),),
        }[name]
        for operand, factor in zip(operands, factors):
            gradients[operand] = add(gradients[operand], g * factor)
    return gradients


@backward.mistake(
    "a gradient is overwritten where it should be added to",
    hint="A value that is used twice has two effects on L. What remains if the second is written over the first?",
)
def _(tape, values):
    return _walk(tape, values, add=lambda old, new: new)


@backward.mistake(
    "the walk begins at the first record",
    hint="A record can hand on its g only when it has it: from all that come later.",
)
def _(tape, values):
    return _walk(tape, values, range(len(values) - len(tape), len(values)))


@backward.mistake("∂L/∂L = 1 is missing, so all are zero", hint="What is the derivative of the last value by itself?")
def _(tape, values):
    return _walk(tape, values, seed=0.0)


@backward.mistake(
    "∂(a·b)/∂a is taken for a", hint="As in exercise 1: each factor's gradient has the other factor in it."
)
def _(tape, values):
    return _walk(tape, values, swap=True)


@backward.mistake(
    "cos is taken of sin's result, not of its operand",
    hint="sin′ at a is cos(a): a is the operand's value, and sin(a) the record's own.",
)
def _(tape, values):
    return _walk(tape, values, of_result=True)
