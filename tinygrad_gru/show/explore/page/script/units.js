// The units of a value: their statistics over the text, in which order they are shown, and which.

/** What a symbol can be; a unit's correlation with it says whether the unit tells such symbols from others. */
const FEATURES = {
  spaces: symbol => symbol === " ",
  "line ends": symbol => symbol === "\n",
  letters: symbol => /^\p{L}$/u.test(symbol),
  capitals: symbol => /^\p{Lu}$/u.test(symbol),
  digits: symbol => /^\p{Nd}$/u.test(symbol),
  punctuation: symbol => /^[\p{P}\p{S}]$/u.test(symbol),
};

/** Orders: {key: [label, what the number beside a unit is]}. */
const ORDERS = {
  number: ["number"],
  variance: ["variance over the text", "variance"],
  mean: ["mean", "mean"],
  now: ["value at this step", "value"],
  ...Object.fromEntries(Object.keys(FEATURES).map(name => ["is " + name, [`correlation with ${name}`, "correlation"]])),
  given: ["correlation with characters …", "correlation"],
  place: ["correlation with the place in the text", "correlation"],
  column: ["correlation with the place in the line", "correlation"],
  memory: ["memory: correlation with itself a step before", "correlation with the step before"],
  surprise: ["correlation with the loss", "correlation"],
};

/** The signal over the steps with which an order correlates the units; null if it is no correlation. */
function signalOf(order, session, given) {
  const { symbols, run } = session;
  if (order.startsWith("is ")) return symbols.map(symbol => +FEATURES[order.slice(3)](symbol));
  if (order === "given")
    return symbols.map(
      symbol => +(session.tokens.isText ? given.includes(symbol) : given.split(/[\s,;]+/).includes(symbol)),
    );
  if (order === "place") return symbols.map((_, t) => t);
  if (order === "column") {
    let place = -1;
    return symbols.map(symbol => (place = symbol === "\n" ? -1 : place + 1));
  }
  return order === "surprise" ? Array.from(run.losses.subarray(0, symbols.length - 1)) : null;
}

function correlation(values, size, unit, signal) {
  const count = signal.length;
  let x = 0,
    y = 0,
    xx = 0,
    yy = 0,
    xy = 0;
  for (let t = 0; t < count; t++) {
    const a = values[t * size + unit],
      b = signal[t];
    ((x += a), (y += b), (xx += a * a), (yy += b * b), (xy += a * b));
  }
  const spread = (xx - (x * x) / count) * (yy - (y * y) / count);
  return spread > 1e-12 ? (xy - (x * y) / count) / Math.sqrt(spread) : 0;
}

/** Where the units of a value are the symbols of the model, in its last layer, a unit is called by its symbol. */
const unitSymbol = (session, { layer, size }, unit) =>
  layer === session.layers.length - 1 && size === session.info.symbols ? session.tokens.symbols[unit] : null;

function unitName(session, value, unit) {
  const symbol = unitSymbol(session, value, unit);
  return symbol === null ? String(unit) : glyph(symbol);
}

function unitTitle(session, value, unit) {
  const symbol = unitSymbol(session, value, unit);
  return `Unit ${unit}` + (symbol === null ? "" : `, for ${quoted(symbol)}`);
}

/** A number for each unit by which an order sorts. */
function scores(order, values, size, session, options) {
  const T = values.length / size,
    made = new Float64Array(size),
    signal = signalOf(order, session, options.given);
  for (let unit = 0; unit < size; unit++) {
    if (signal) made[unit] = correlation(values, size, unit, signal);
    else if (order === "memory") made[unit] = correlation(values, size, unit, column(values, size, unit).slice(1));
    else if (order === "now") made[unit] = values[options.t * size + unit];
    else {
      let sum = 0,
        squares = 0;
      for (let t = 0; t < T; t++) sum += values[t * size + unit];
      if (order === "mean") made[unit] = sum / T;
      else for (let t = 0; t < T; t++) squares += (values[t * size + unit] - sum / T) ** 2 / T;
      if (order === "variance") made[unit] = squares;
    }
  }
  return made;
}

/** The unit numbers that a filter such as "3, 10-20" names, and what of it could not be read. */
function unitsIn(text, size) {
  const units = new Set(),
    unread = [];
  for (const part of text.split(/[\s,;]+/).filter(Boolean)) {
    const match = /^(\d+)(?:[-–:](\d+))?$/.exec(part);
    const first = match ? +match[1] : NaN,
      last = match && match[2] !== undefined ? +match[2] : first;
    if (!(first <= last && last < size)) unread.push(part);
    else for (let unit = first; unit <= last; unit++) units.add(unit);
  }
  return { units, unread };
}

/** {units, scores, note}: the units to show, in order. */
function chooseUnits(value, session, options) {
  const size = value.size,
    { units: wanted, unread } = unitsIn(options.filter, size);
  const all = Array.from({ length: size }, (_, unit) => unit).filter(unit => !wanted.size || wanted.has(unit));
  let made = null;
  if (options.order !== "number") {
    made = scores(options.order, session.series(value), size, session, options);
    const strength = ORDERS[options.order][1] === "correlation" ? v => Math.abs(v) : v => v;
    all.sort((a, b) => strength(made[b]) - strength(made[a]) || a - b);
  }
  const note = unread.length ? `Not unit numbers from 0 to ${size - 1}: ${listed(unread)}.` : "";
  return { units: options.count ? all.slice(0, options.count) : all, scores: made, note };
}
