// Changes to the model: clamp a value, move a bias, scale a matrix; and what becomes of the loss and of what it writes.

const changeView = {
  title: "Change it",

  update({ session, value, unit }) {
    const key = session.name + value.layer;
    if (this.key !== key) {
      this.key = key;
      this.shown = null;
      this.build(session, value.layer);
    }
    if (this.shown !== value.key) {
      this.shown = value.key;
      if (value.record) $("clamp-value").value = value.key; // the probabilities cannot be clamped
    }
    this.showNumbers(session, unit);
    this.showList(session);
    writer.later(() => this.showWritten(session));
  },

  build(session, l) {
    const { named, unnamed } = session.values[l];
    const field = (legend, ...parts) =>
      element("fieldset", {}, element("legend", { text: legend }), element("div", { class: "row" }, ...parts));
    const labelled = (text, control) => element("label", {}, text, " ", control);
    const slider = (id, low, high, step) => element("input", { type: "range", id, min: low, max: high, step });
    fill(
      $("panel-change"),
      element("h2", { text: "Change the model" }),
      element("p", { id: "change-loss", class: "big", role: "status" }),
      element("h3", { text: "What it writes after the text" }),
      element("p", { id: "change-how", class: "small quiet" }),
      element(
        "div",
        { class: "pair" },
        element(
          "div",
          {},
          element("p", { class: "small quiet", text: "as it was made" }),
          element("div", { class: "written", id: "written-before" }),
        ),
        element(
          "div",
          {},
          element("p", { class: "small quiet", text: "now" }),
          element("div", { class: "written", id: "written-now" }),
        ),
      ),
      field(
        "Clamp a value",
        labelled("Value", element("select", { id: "clamp-value" })),
        labelled(
          "of",
          element(
            "select",
            { id: "clamp-unit" },
            element("option", { value: "all", text: "all units" }),
            element("option", { value: "one" }),
          ),
        ),
        this.button("clamp-0", "to 0", () => this.clamp(0)),
        this.button("clamp-1", "to 1", () => this.clamp(1)),
        labelled(
          "or to",
          element("input", { id: "clamp-number", type: "number", step: "0.1", value: "0.5", style: "width:5.5rem" }),
        ),
        this.button("clamp-to", "clamp", () => $("clamp-number").value && this.clamp(+$("clamp-number").value)),
      ),
      field(
        "Move a bias",
        labelled("Bias", element("select", { id: "bias-name", on: { change: draw } })),
        element("label", { for: "bias", id: "bias-label" }),
        slider("bias", -5, 5, 0.1),
        element("output", { id: "bias-now", for: "bias" }),
      ),
      field(
        "Scale a weight matrix",
        labelled("Matrix", element("select", { id: "scale-name", on: { change: draw } })),
        element("label", { for: "scale", text: "times" }),
        slider("scale", 0, 2, 0.05),
        element("output", { id: "scale-now", for: "scale" }),
      ),
      element(
        "div",
        { class: "row" },
        this.button("undo", "Undo", () => this.with("undo")),
        this.button("redo", "Redo", () => this.with("redo")),
        this.button("reset", "Reset all", () => this.with("reset")),
      ),
      element("ul", { id: "changes", "aria-label": "The changes" }),
    );
    const choices = list => list.map(({ key, label }) => ({ value: key, label }));
    const gate = named.find(({ record }) => record.op === "sigmoid") || named[0] || unnamed[0];
    setChoices(
      $("clamp-value"),
      [
        { label: "values with a name", choices: choices(named) },
        { label: "steps between", choices: choices(unnamed) },
      ],
      gate.key,
    );
    const own = new Set(session.layers[l].parameters.map(({ name }) => name));
    const parameters = count => session.info.parameters.filter(({ shape }) => shape.length > 1 === count > 1);
    const names = list => list.map(({ name }) => ({ value: name, label: name }));
    for (const [id, count, event] of [
      ["bias-name", 1, "bias"],
      ["scale-name", 2, "scale"],
    ]) {
      const all = parameters(count),
        mine = all.filter(({ name }) => own.has(name)),
        others = all.filter(({ name }) => !own.has(name));
      setChoices(
        $(id),
        [
          { label: "of this layer", choices: names(mine) },
          { label: "of others", choices: names(others) },
        ],
        (mine[0] || others[0] || {}).name,
      );
      $(id).closest("fieldset").hidden = !all.length;
      $(event).addEventListener("input", () => this.slide(event, true));
      $(event).addEventListener("change", () => {
        page.session.changes.isGoing = false;
      });
    }
  },

  button: (id, text, click) => element("button", { type: "button", id, text, on: { click } }),

  with(action) {
    page.session.changes[action]();
    modelChanged();
  },

  clamp(number) {
    const { layer, index, size } = page.session.valueAt($("clamp-value").value);
    const unit = $("clamp-unit").value === "all" ? null : Math.min(page.unit, size - 1);
    page.session.changes.set({ kind: "clamp", layer, index, unit, value: number });
    modelChanged();
  },

  /** The change that a slider makes, at its present value. */
  sliderChange(kind) {
    const name = $(kind + "-name").value,
      value = +$(kind).value;
    if (kind === "scale") return { kind, name, value };
    return { kind, name, unit: Math.min(page.unit, page.session.model.parameters[name].length - 1), value };
  },

  slide(kind, going) {
    page.session.changes.set(this.sliderChange(kind), going);
    modelChanged();
  },

  showNumbers(session, unit) {
    const { changes } = session,
      loss = session.meanLoss(session.run),
      before = session.meanLoss(session.original);
    setText(
      "change-loss",
      changes.list.length
        ? `Loss ${format(before)} as it was made, ${format(loss)} now`
        : `Loss ${format(loss)}, nothing changed yet`,
    );
    $("clamp-unit").options[1].textContent = `unit ${unit}`;
    for (const [kind, idle] of [
      ["bias", 0],
      ["scale", 1],
    ]) {
      if (!$(kind + "-name").value) continue;
      const made = this.sliderChange(kind),
        now = changes.valueOf(made, idle);
      if (+$(kind).value !== now) $(kind).value = now;
      setText(kind + "-now", kind === "bias" ? (now > 0 ? "+" : "") + format(now) : "× " + format(now));
      if (kind === "bias") setText("bias-label", `of unit ${made.unit}, moved by`);
    }
    for (const [id, list] of [
      ["undo", changes.past],
      ["redo", changes.future],
      ["reset", changes.list],
    ])
      $(id).disabled = !list.length;
  },

  showList(session) {
    const { changes } = session;
    fill(
      $("changes"),
      ...changes.list.map((each, i) =>
        element(
          "li",
          {},
          describe(session, each) + " ",
          element("button", {
            type: "button",
            class: "link",
            id: "remove-" + i,
            text: "remove",
            "aria-label": "Remove: " + describe(session, each),
            on: {
              click: () => {
                changes.remove(each);
                modelChanged();
              },
            },
          }),
        ),
      ),
    );
  },

  showWritten(session) {
    if (session !== page.session || page.tab !== "change") return;
    const { length, temperature } = writer.settings;
    const how = `${length} symbols, temperature ${temperature}, as in “${writeView.title}”; grey: the same in both`;
    setText("change-how", how);
    const [before, now] = [true, false].map(isBefore => writer.write(session, writer.settings, isBefore));
    let same = 0;
    while (same < now.length && now[same] === before[same]) same++;
    for (const [id, text] of [
      ["written-before", before],
      ["written-now", now],
    ])
      fill($(id), element("b", { text: text.slice(0, same) }), text.slice(same));
  },
};

/** A change, in words. */
function describe(session, { kind, layer, index, name, unit, value }) {
  if (kind === "clamp") {
    const of = unit === null ? "all units" : "unit " + unit;
    return `${session.valueAt(`${layer}:${index}`).label} of ${of} is ${format(value)}`;
  }
  return kind === "bias" ? `${name}[${unit}] moved by ${format(value)}` : `${name} times ${format(value)}`;
}
