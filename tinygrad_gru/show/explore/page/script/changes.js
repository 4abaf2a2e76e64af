// Changes to a model: a value clamped, a bias moved, a weight matrix scaled; with undo, redo and reset.

/** A change is {kind: "clamp", layer, index, unit | null, value}, {kind: "bias", name, unit, value} or
    {kind: "scale", name, value}; one with the key of an earlier one takes its place. */
function keyOf(change) {
  return [change.kind, change.layer, change.index, change.name, change.unit].join("|");
}

const isIdle = change =>
  (change.kind === "bias" && change.value === 0) || (change.kind === "scale" && change.value === 1);

class Changes {
  constructor(model) {
    this.model = model;
    this.originals = new Map(); // of the parameters that were changed
    this.past = [];
    this.list = [];
    this.future = [];
  }

  /** Make a change. `going`: the hand is still on the slider, so that it is one step for `undo` with what follows. */
  set(change, going = false) {
    if (!this.isGoing) this.past.push(this.list);
    this.isGoing = going;
    this.future = [];
    const others = this.list.filter(other => keyOf(other) !== keyOf(change));
    this.apply(isIdle(change) ? others : [...others, change]);
  }

  remove(change) {
    this.isGoing = false;
    this.past.push(this.list);
    this.future = [];
    this.apply(this.list.filter(other => other !== change));
  }

  reset() {
    if (!this.list.length) return;
    this.isGoing = false;
    this.past.push(this.list);
    this.future = [];
    this.apply([]);
  }

  undo() {
    this.isGoing = false;
    if (!this.past.length) return;
    this.future.push(this.list);
    this.apply(this.past.pop());
  }

  redo() {
    if (!this.future.length) return;
    this.past.push(this.list);
    this.apply(this.future.pop());
  }

  /** The value of a change like this one, or what stands there without it. */
  valueOf(change, otherwise) {
    const found = this.list.find(other => keyOf(other) === keyOf(change));
    return found ? found.value : otherwise;
  }

  /** The clamp of a unit of a record, if there is one. */
  clampOf(layer, index, unit) {
    return this.list.find(
      each =>
        each.kind === "clamp" &&
        each.layer === layer &&
        each.index === index &&
        (each.unit === null || each.unit === unit),
    );
  }

  /** Write the parameters that `list` gives, from the original ones. */
  apply(list) {
    this.list = list;
    for (const [name, values] of this.originals) this.model.parameters[name].set(values);
    for (const { kind, name, unit, value } of list) {
      if (kind === "clamp") continue;
      const live = this.model.parameters[name];
      if (!this.originals.has(name)) this.originals.set(name, live.slice());
      if (kind === "bias") live[unit] += value;
      else for (let i = 0; i < live.length; i++) live[i] *= value;
    }
  }

  /** Call a function with the model as it was made. */
  without(call) {
    const list = this.list;
    this.apply([]);
    try {
      return call();
    } finally {
      this.apply(list);
    }
  }

  /** What `forward` shall do to values: the clamps, then `more`; undefined if there is nothing to do. */
  inspect(more = null) {
    const clamps = new Map();
    for (const change of this.list) {
      if (change.kind !== "clamp") continue;
      const place = change.layer + ":" + change.index;
      clamps.set(place, [...(clamps.get(place) || []), change]);
    }
    if (!clamps.size) return more || undefined;
    return (layer, index, t, array) => {
      for (const { unit, value } of clamps.get(layer + ":" + index) || []) {
        if (unit === null) array.fill(value);
        else array[unit] = value;
      }
      if (more) more(layer, index, t, array);
    };
  }
}
