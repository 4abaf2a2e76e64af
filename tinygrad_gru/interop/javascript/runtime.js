/* A text model: embedding, layers, softmax, losses and sampling. What a layer computes is in its own functions. */

/**
 * info        what the model is (see `interop.javascript.source`)
 * parameters  name → typed array; change a number in one and call again
 * constants   of each layer, the arrays that its step closes over
 * functions   of each layer {forward, backward}
 */
function textModel(info, parameters, constants, functions) {
  const { symbols, embedding, layers } = info;
  const Numbers = info.dtype === "float64" ? Float64Array : Float32Array;

  function checkIds(ids, what, least) {
    for (let t = 0; t < ids.length; t++) {
      if (!Number.isInteger(ids[t]) || ids[t] < least || ids[t] >= symbols) {
        throw new RangeError(`${what}[${t}] is ${ids[t]}: expected an integer in ${least} … ${symbols - 1}`);
      }
    }
  }

  function checkState(state) {
    const expected = JSON.stringify(layers.map((layer) => layer.carry.map((part) => part.size)));
    const got = JSON.stringify(state.map((parts) => parts.map((part) => part.length)));
    if (got !== expected) throw new RangeError(`state: expected arrays of ${expected} numbers, got ${got}`);
  }

  /** The state before the first step: of each layer, of each part of its carry an array. */
  function initialState() {
    return layers.map((layer) =>
      layer.carry.map((part) => (part.initial === null ? new Numbers(part.size) : parameters[part.initial].slice())));
  }

  /** What calls `inspect` after a record, and notes in `changes` which elements it has changed, and from what. */
  function observer(inspect, layer, changes) {
    const before = [];
    return (index, t, array, start, size) => {
      const row = array.subarray(start, start + size);
      const old = (before[index] ??= row.slice());
      old.set(row);
      inspect(layer, index, t, row);
      for (let i = 0; i < size; i++) {
        if (row[i] !== old[i] && !(Number.isNaN(row[i]) && Number.isNaN(old[i]))) {
          const of = (changes[index] ??= { mask: new Uint8Array(array.length), own: array.slice() });
          [of.mask[start + i], of.own[start + i]] = [1, old[i]];
        }
      }
    };
  }

  /** The logits of the next symbol after each of the ids, every value on the way, and with targets the losses. */
  function forward(ids, { targets = null, state = null, inspect = null } = {}) {
    const length = ids.length, width = embedding.size, table = parameters[embedding.parameter];
    checkIds(ids, "ids", 0);
    if (targets !== null) {
      if (targets.length !== length) throw new RangeError(`${targets.length} targets for ${length} ids`);
      checkIds(targets, "targets", -Infinity);
    }
    let x = new Numbers(length * width);
    for (let t = 0; t < length; t++) x.set(table.subarray(ids[t] * width, (ids[t] + 1) * width), t * width);
    // backward needs the parameters of this run, whatever they are by then.
    const own = targets === null ? null : copied(parameters);
    const initial = state ?? initialState(), runs = [];
    checkState(initial);
    layers.forEach((layer, l) => {
      const changes = [], observe = inspect && observer(inspect, l, changes);
      const run = functions[l].forward(parameters, constants[l], x, initial[l], length, observe);
      runs.push({ ...run, x, length, changes });
      x = run.output;
    });
    const probabilities = new Numbers(length * symbols), losses = targets && new Numbers(length);
    for (let t = 0; t < length; t++) {
      const p = softmax(x.subarray(t * symbols, (t + 1) * symbols));
      probabilities.set(p.probabilities, t * symbols);
      if (targets !== null && targets[t] >= 0) losses[t] = p.logSum - x[t * symbols + targets[t]];
    }
    return {
      ids: Array.from(ids), targets: targets && Array.from(targets), length, parameters: own, logits: x, probabilities,
      losses, state: runs.map((run, l) => run.carry.map((part, i) => part.slice(length * layers[l].carry[i].size))),
      values: runs.map((run) => run.values), carry: runs.map((run) => run.carry),
      inputs: runs.map((run) => run.x), outputs: runs.map((run) => run.output), runs,
    };
  }

  /**
   * The gradients of Σ weights[t] · losses[t] of a run with targets, at the parameters that it had; the weights are
   * 1 / T by default.
   */
  function backward(run, weights = null) {
    const { ids, targets, length, probabilities, runs } = run;
    if (targets === null) throw new Error("backward needs a run with targets: forward(ids, {targets})");
    if (weights !== null && weights.length !== length) {
      throw new RangeError(`${weights.length} weights for ${length} losses`);
    }
    let g = new Numbers(length * symbols);
    for (let t = 0; t < length; t++) {
      const weight = weights === null ? 1 / length : weights[t];
      if (targets[t] < 0 || weight === 0) continue;
      for (let v = 0; v < symbols; v++) g[t * symbols + v] = weight * probabilities[t * symbols + v];
      g[t * symbols + targets[t]] -= weight;
    }
    const logits = g, gradients = {}, cotangents = [], carry = [], inputs = [];
    for (const { name, differentiable } of info.parameters) {
      if (differentiable) gradients[name] = new parameters[name].constructor(parameters[name].length);
    }
    for (let l = layers.length - 1; l >= 0; l--) {
      const of = functions[l].backward(run.parameters, constants[l], runs[l], runs[l].changes, g, gradients);
      layers[l].carry.forEach(({ initial, size }, i) => {
        if (initial in gradients) add(gradients[initial], of.carry[i].subarray(0, size), 0);
      });
      [cotangents[l], carry[l], inputs[l]] = [of.cotangents, of.carry, of.x];
      g = of.x;
    }
    const width = embedding.size, table = gradients[embedding.parameter];
    for (let t = 0; t < length && table; t++) {
      if (ids[t] !== embedding.padding) add(table, g.subarray(t * width, (t + 1) * width), ids[t] * width);
    }
    return { parameters: gradients, cotangents, carry, inputs, logits };
  }

  /** One symbol: the state after it, and the probabilities of the next. */
  function step(state, id, inspect = null) {
    const run = forward([id], { state, inspect });
    return { state: run.state, probabilities: run.probabilities, logits: run.logits };
  }

  /** `length` ids that follow those given; the same seed gives the same. The rules are those of `train.generate`. */
  function generate(ids, length, { temperature = 0.8, topP = 0.95, seed = 0, inspect = null } = {}) {
    if (!(length >= 0 && temperature >= 0 && topP > 0 && topP <= 1)) {
      throw new RangeError("expected length and temperature of at least 0 and topP in (0, 1], " +
        `got ${length}, ${temperature} and ${topP}`);
    }
    if (ids.length === 0) throw new RangeError("ids: expected at least one, from which to go on");
    const random = randomNumbers(seed), all = Array.from(ids);
    let run = forward(all, { inspect });
    for (let n = 0; n < length; n++) {
      const [last, before] = [all[all.length - 1], all[all.length - 2]];
      const logits = run.logits.subarray((run.length - 1) * symbols);
      all.push(draw(logits, random, { temperature, topP, asIs: last === before ? last : null }));
      if (n + 1 < length) run = forward(all.slice(-1), { state: run.state, inspect });
    }
    return all.slice(ids.length);
  }

  function encode(text) {
    return Array.from(text, (symbol) => {
      const id = info.vocabulary.indexOf(symbol);
      const known = id >= 0 ? id : info.vocabulary.indexOf(info.other);
      if (known < 0) throw new RangeError(`the vocabulary has no ${JSON.stringify(symbol)}`);
      return known;
    });
  }

  const decode = (ids) => Array.from(ids, (id) => info.vocabulary[id]).join("");

  return { info, parameters, forward, backward, step, generate, draw, encode, decode };
}

/** softmax(logits / temperature), and the logarithm of Σ exp(logits); the largest logit is subtracted first. */
function softmax(logits, temperature = 1) {
  const top = logits.reduce((a, b) => Math.max(a, b), -Infinity);
  const probabilities = Float64Array.from(logits, (x) => (x === -Infinity ? 0 : Math.exp((x - top) / temperature)));
  const sum = probabilities.reduce((a, b) => a + b, 0);
  return { probabilities: probabilities.map((p) => p / sum), logSum: top + Math.log(sum) };
}

/**
 * An index into `logits`, drawn from softmax(logits / temperature), cut to the likeliest that together have probability
 * `topP`. The index `asIs` is drawn with its probability in softmax(logits), and the others as said if it is not.
 */
function draw(logits, random, { temperature = 1, topP = 1, asIs = null } = {}) {
  logits = Float64Array.from(logits);
  if (logits.some(Number.isNaN) || logits.every((x) => x === -Infinity)) {
    throw new Error("the logits are not finite: the model cannot be sampled from (did its training diverge?)");
  }
  if (logits.includes(Infinity)) logits = logits.map((x) => (x === Infinity ? 0 : -Infinity));  // they share it all
  if (asIs !== null) {
    if (random() < softmax(logits).probabilities[asIs]) return asIs;
    logits[asIs] = -Infinity;
  }
  const order = Array.from(logits.keys()).sort((a, b) => logits[b] - logits[a] || a - b);
  if (temperature === 0) return order[0];
  const probabilities = softmax(logits.map((_, i) => logits[order[i]]), temperature).probabilities;
  let total = 0, count = 0;
  while (count < probabilities.length && total < topP) total += probabilities[count++];
  let rest = random() * total, i = 0;
  while (i + 1 < count && rest >= probabilities[i]) rest -= probabilities[i++];
  return order[i];
}

/** Random numbers in [0, 1) from a seed: a Weyl sequence, whose numbers are mixed ("mulberry32"). */
function randomNumbers(seed) {
  let state = seed | 0;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let x = Math.imul(state ^ (state >>> 15), 1 | state);
    x = (x + Math.imul(x ^ (x >>> 7), 61 | x)) ^ x;
    return ((x ^ (x >>> 14)) >>> 0) / 2 ** 32;
  };
}

/** A copy of the parameters. */
function copied(parameters) {
  return Object.fromEntries(Object.entries(parameters).map(([name, array]) => [name, array.slice()]));
}

/** target += source, from a position of the target on. */
function add(target, source, start) {
  for (let i = 0; i < source.length; i++) target[start + i] += source[i];
}

/** The values of a record as they were before some were changed by hand: its own rule may need them. */
function unchanged(values, change) {
  return change ? values.map((value, i) => (change.mask[i] ? change.own[i] : value)) : values;
}

/** The cotangent of a record at a step, without the elements that were changed by hand: none passes through these. */
function hide({ mask }, source, target, start, size) {
  for (let i = start; i < start + size; i++) target[i] = mask[i] ? 0 : source[i];
}
