// A model of this page, the text that it reads, and what was computed of it: each thing once, when it is asked for.

class Session {
  /** model: a `tinygradModel`; name: what the page calls it; cells: {class: [[equation, meaning]]} of its cells */
  constructor(model, name, cells) {
    this.model = model;
    this.cells = cells;
    this.info = model.info;
    this.name = name;
    this.layers = model.info.layers;
    this.tokens = new Tokens(model.info);
    this.changes = new Changes(model);
    this.memory = new Map();
    this.values = this.layers.map((layer, l) => this.valuesOf(layer, l));
    // what it reads until it is given a text that it can read: a page with several models may begin with one of another
    const first = this.tokens.symbols.slice(0, 24);
    this.read([...first, ...first].join(this.tokens.isText ? "" : " "));
  }

  /** Read a text; returns notes on what of it is not read. */
  read(text) {
    const { ids, symbols, notes } = this.tokens.encode(text);
    if (ids.length >= 2) {
      Object.assign(this, { ids, symbols, targets: [...ids.slice(1), -1] });
      this.memory.clear();
    }
    return notes;
  }

  /** What was computed of the present text and changes. */
  once(key, compute) {
    if (!this.memory.has(key)) this.memory.set(key, compute());
    return this.memory.get(key);
  }

  /** To be called when a change was made: what was computed holds no longer, but for the model as it was made. */
  changed() {
    const kept = this.memory.get("original");
    this.memory.clear();
    if (kept) this.memory.set("original", kept);
  }

  get run() {
    return this.once("run", () => this.forward());
  }

  /** The run of the model as it was made; for comparison. */
  get original() {
    const { changes } = this;
    if (!changes.list.length) this.memory.set("original", this.run);
    return this.once("original", () => changes.without(() => this.forward()));
  }

  forward() {
    return this.model.forward(this.ids, { targets: this.targets, inspect: this.changes.inspect() });
  }

  /** The gradients of the loss at one step, as `backward` gives them; those of the last step asked for are kept. */
  gradients(t) {
    const kept = this.memory.get("gradients");
    if (kept && kept.t === t) return kept;
    const gradients = {
      t,
      ...this.model.backward(
        this.run,
        this.ids.map((_, i) => +(i === t)),
      ),
    };
    this.memory.set("gradients", gradients);
    return gradients;
  }

  /** The mean loss of a run in nats per symbol; the last symbol has no next one. */
  meanLoss(run) {
    return run.losses.reduce((sum, loss) => sum + loss, 0) / (this.ids.length - 1);
  }

  /** What a layer has to look at: its records, those with a name first, and the parts of its state. */
  valuesOf(layer, l) {
    const made = index => layer.next.findIndex(next => next === index);
    const records = layer.records
      .filter(record => !record.invariant)
      .map(record => {
        const part = made(record.index);
        const isState = part >= 0;
        const name = isState ? prettyName(layer.carry[part].name + "'") : record.name && prettyName(record.name);
        const title = isState ? `${name}, the new state` : name;
        return {
          layer: l,
          index: record.index,
          size: record.size,
          record,
          name,
          isState,
          label: title || readable(layer, record.index),
          key: `${l}:${record.index}`,
        };
      });
    return { named: records.filter(value => value.name), unnamed: records.filter(value => !value.name), all: records };
  }

  /** A value that is no record: the probabilities of what comes next, as if of the last layer. */
  get probabilities() {
    const layer = this.layers.length - 1;
    return { layer, size: this.info.symbols, name: "p", label: "p, the probability of what comes next", key: "p" };
  }

  valueAt(key) {
    if (key === "p") return this.probabilities;
    return this.values.flatMap(({ all }) => all).find(value => value.key === key);
  }

  /** The values with a name that have the units of a value; and that value itself. */
  alongside(value) {
    const { named } = this.values[value.layer];
    const all = named.some(({ key }) => key === value.key) ? named : [value, ...named];
    return all.filter(({ size }) => size === value.size);
  }

  /** A value over time: T × size. */
  series({ key, layer, index }) {
    return key === "p" ? this.run.probabilities : this.run.values[layer][index];
  }
}

/** h_tilde is h̃, h_hat is ĥ, h' is h′. */
function prettyName(name) {
  return name
    .replace("'", "′")
    .replace(/^([a-z])_tilde/i, "$1\u0303")
    .replace(/^([a-z])_hat/i, "$1\u0302");
}

const SIGN_OF = { add: "+", subtract: "−", hadamard: "⊙", multiply: "⊙", divide: "/", matmul: "@" };

/** The name of what a record takes: of a record its own, else its expression. */
function nameOf(layer, ref) {
  if (ref !== null && typeof ref === "object") return String(ref.value);
  if (typeof ref === "number") {
    const record = layer.records[ref];
    return record.name ? prettyName(record.name) : readable(layer, ref);
  }
  return shortName(ref);
}

/** A parameter's own name, without its path. */
function shortName(name) {
  return name.startsWith("constant") ? name : name.slice(name.lastIndexOf(".") + 1);
}

/** The expression of a record down to what has a name: (x @ W_r) + (h @ U_r). */
function readable(layer, index, depth = 0) {
  const { op, inputs, text } = layer.records[index];
  const parts = inputs.map(ref => {
    const isInner = typeof ref === "number" && !layer.records[ref].name;
    if (!isInner) return nameOf(layer, ref);
    if (depth > 3) return "…";
    const inner = readable(layer, ref, depth + 1);
    const sum = op === "add" && layer.records[ref].op === "add";
    return SIGN_OF[layer.records[ref].op] && !sum && layer.records[ref].op !== "matmul" ? `(${inner})` : inner;
  });
  if (SIGN_OF[op] && parts.length === 2) {
    return op === "matmul"
      ? parts.map(part => (/[ (]/.test(part) && !part.startsWith("(") ? `(${part})` : part)).join(" @ ")
      : parts.join(` ${SIGN_OF[op]} `);
  }
  const own = text.replace(/\bv(\d+)\b/g, (all, i) => (layer.records[i] && +i !== index ? nameOf(layer, +i) : all));
  return parts.length === 1 || own.length > 60 ? `${op}(${parts.join(", ")})` : own;
}
