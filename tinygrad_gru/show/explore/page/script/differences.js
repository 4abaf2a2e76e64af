// Finite differences of a step's loss, beside which a cotangent is shown.

/** The loss of `target` from a row of logits, in double precision. */
function crossEntropy(logits, target) {
  const most = Math.max(...logits);
  return Math.log(logits.reduce((sum, v) => sum + Math.exp(v - most), 0)) + most - logits[target];
}

/**
 * The derivative of the loss at step `loss` in a direction of a record's value, by differences of runs that begin at the
 * record's step: {value, uncertainty}.
 *
 * Central differences with steps ε and ε/2, of which (4 D(ε/2) − D(ε)) / 3 has an error of order ε⁴. The runs are in
 * float32, so ε is large (a tenth): what they round away, some 10⁻⁷ of the logits, is divided by it.
 */
function difference(session, { layer, index, t }, loss, direction, epsilon = 0.1) {
  const { model, ids, targets, changes, info, layers, run } = session;
  const state = layers.map(({ carry }, l) => carry.map(({ size }, part) => row(run.carry[l][part], size, t).slice()));
  const given = ids.slice(t, loss + 1);
  const lossAt = step => {
    const nudge = (l, i, at, array) => {
      if (l === layer && i === index && at === 0)
        for (let k = 0; k < array.length; k++) array[k] += step * direction[k];
    };
    const { logits } = model.forward(given, { state, inspect: changes.inspect(nudge) });
    return crossEntropy(row(logits, info.symbols, given.length - 1), targets[loss]);
  };
  const slope = step => (lossAt(step) - lossAt(-step)) / (2 * step);
  const wide = slope(epsilon),
    narrow = slope(epsilon / 2),
    value = (4 * narrow - wide) / 3;
  const size = Math.max(...row(run.logits, info.symbols, loss).map(Math.abs), 1);
  return { value, uncertainty: (2 ** -23 * size) / epsilon + Math.abs(narrow - wide) / 20 };
}
