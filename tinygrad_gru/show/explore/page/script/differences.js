// Finite differences of a step's loss, beside which a cotangent is shown.

/** The loss of `target` from a row of logits, in double precision. */
function crossEntropy(logits, target) {
  const most = Math.max(...logits);
  return Math.log(logits.reduce((sum, v) => sum + Math.exp(v - most), 0)) + most - logits[target];
}

/**
 * The derivative of the loss at step `loss` in a direction of a record's value, by differences of runs that begin at the
 * record's step: {value, uncertainty, epsilon}.
 *
 * Central differences D(ε) and D(ε/2), of which (4 D(ε/2) − D(ε)) / 3 has an error of order ε⁴. In float32 some 10⁻⁷ of
 * the logits are rounded away and divided by ε, so ε is as large as may be: it is made smaller only while the two differ
 * by more than that, or leave the domain of an op, as a step below 0 does under a root.
 */
function difference(session, { layer, index, t }, loss, direction) {
  const { model, ids, targets, changes, info, layers, run } = session;
  const state = layers.map(({ carry }, l) => carry.map(({ size }, part) => row(run.carry[l][part], size, t).slice()));
  const given = ids.slice(t, loss + 1);
  const lossAt = step => {
    const nudge = (l, i, at, array) => {
      if (l !== layer || i !== index || at !== 0) return;
      for (let k = 0; k < array.length; k++) array[k] += step * direction[k];
    };
    const { logits } = model.forward(given, { state, inspect: changes.inspect(nudge) });
    return crossEntropy(row(logits, info.symbols, given.length - 1), targets[loss]);
  };
  const slope = step => (lossAt(step) - lossAt(-step)) / (2 * step);
  const largest = Math.max(...row(run.logits, info.symbols, loss).map(Math.abs), 1);
  let best = { value: NaN, uncertainty: Infinity, epsilon: 0.1 };
  for (const epsilon of [0.1, 0.02, 0.004, 0.0008]) {
    const wide = slope(epsilon);
    const narrow = slope(epsilon / 2);
    const value = (4 * narrow - wide) / 3;
    const rounded = ((info.dtype === "float64" ? 2 ** -52 : 2 ** -23) * largest) / epsilon;
    const curved = Math.abs(narrow - wide) / 20;
    if (rounded + curved < best.uncertainty) best = { value, uncertainty: rounded + curved, epsilon };
    if (curved <= Math.max(rounded, 1e-4 * Math.abs(value))) break;
  }
  return best;
}
