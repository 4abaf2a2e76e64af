/**
 * A recurrence: a step run over time, and its gradients. Arrays are flat typed arrays: of a part of the carry one step,
 * of an x or a y all steps, step t at t * size.
 *
 * info       the sizes of the parts of the carry, of the xs and of the ys, and where residuals, gradients, and the
 *            indices that must be in bounds are
 * constants  the arrays that the step closes over; change a number in one and call again
 */
function compiledScan(info, constants, forwardProgram, backwardProgram) {
  /** {carry: the last one, ys}, from the first carry and the xs; `length` is needed where there are no xs. */
  function forward(carry, xs = [], { length = null, reverse = false } = {}) {
    check("carry", carry, info.carry);
    const steps = length ?? (info.xs.length && xs.length ? xs[0].length / info.xs[0].size : null);
    if (!Number.isInteger(steps)) throw new RangeError("length: the number of steps is unknown; give xs or length");
    check("xs", xs, info.xs, steps);
    // backward needs what this run was given, whatever is in these arrays by then.
    const given = { xs: copied(xs), constants: copied(constants), length: steps, reverse };
    const run = forwardProgram(given.constants, carry, given.xs, steps, reverse);
    const count = info.ys.length, computed = run.ys.slice(count);
    const result = { carry: run.carry, ys: run.ys.slice(0, count), states: run.states, computed, ...given };
    for (const { of: [kind, index], low, high, message } of info.checks) {
      const wrong = result[kind][index].find((i) => !(low <= i && i < high));
      if (wrong !== undefined) throw new RangeError(message.replace("{}", wrong));
    }
    return result;
  }

  /**
   * {carry, xs, closedOver}: the gradients of a run, from the cotangents of its last carry and of its ys; one that is
   * null or left out is zero. `closedOver` are those of the tensors that require a gradient; null where there is none.
   */
  function backward(run, { carry = [], ys = [] } = {}) {
    const zeros = (part, steps = 1) => new part.array(steps * part.size);
    const residuals = info.residuals.map(([kind, index]) => run[kind][index]);
    const ofCarry = info.carry.map((part, i) => carry[i] ?? zeros(part));
    const ofYs = info.ys.map((part, i) => ys[i] ?? zeros(part, run.length));
    check("carry", ofCarry, info.carry);
    check("ys", ofYs, info.ys, run.length);
    const found = backwardProgram(run.constants, ofCarry, [...residuals, ...ofYs], run.length, !run.reverse);
    const where = (index, arrays) => (index === null ? null : arrays[index]);
    return {
      carry: found.carry,
      xs: info.xs.map((x) => where(x.gradient, found.ys)),
      closedOver: info.closedOver.map((tensor) => where(tensor.gradient, found.sums)),
    };
  }

  const copied = (arrays) => Array.from(arrays, (array) => array.slice());

  function check(what, arrays, parts, steps = 1) {
    const expected = parts.map((part) => `${part.array.name}(${steps * part.size})`).join(", ");
    const got = Array.from(arrays, (array) => `${array.constructor.name}(${array.length})`).join(", ");
    if (got !== expected) throw new RangeError(`${what}: expected [${expected}], got [${got}]`);
  }

  return { info, constants, forward, backward };
}
