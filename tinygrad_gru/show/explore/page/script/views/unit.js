// A unit at a step: the lines of the cell's step, with the numbers of this unit, and what fed it.

const unitView = {
  title: "The unit",

  update({ session, value, t, unit }) {
    const { layer: l } = value,
      layer = session.layers[l],
      run = session.run;
    const lines = new Map();
    for (const record of layer.records) {
      const line = record.line === null ? -1 : record.line;
      lines.set(line, [...(lines.get(line) || []), record]);
    }
    const isInner = new Set(
      layer.records
        .filter(({ op }) => op === "add")
        .flatMap(record =>
          record.inputs.filter(
            ref => typeof ref === "number" && layer.records[ref].op === "add" && !layer.records[ref].name,
          ),
        ),
    );
    const parts = [];
    for (const [line, records] of [...lines].sort(([a], [b]) => a - b)) {
      if (line >= 0) parts.push(element("pre", { class: "line", text: tidy(layer.source[line] || "") }));
      const shown = records.filter(({ index }) => !isInner.has(index)).reverse();
      parts.push(
        element("ul", { class: "values" }, ...shown.map(record => this.item(session, run, l, record, unit, t))),
      );
    }
    fill(
      $("panel-unit"),
      element("h2", { text: `${unitTitle(session, value, unit)} of ${layer.cell}, at ${stepName(t)}` }),
      element(
        "div",
        { class: "row" },
        this.step("unit-before", "◀ unit", -1),
        this.step("unit-after", "unit ▶", 1),
        element("span", { class: "quiet small", text: "in the order of the heatmap" }),
      ),
      this.inShort(session, value, unit, t),
      element("h3", { text: "What fed it: the lines of its step in numbers" }),
      element("p", { class: "quiet small", text: this.inputs(session, layer, l, t) }),
      ...parts,
    );
  },

  /** The equations of the cell as its documentation has them: formula, the unit's number, what it is called. */
  inShort(session, value, unit, t) {
    const equations = session.cells[session.layers[value.layer].cell];
    if (!equations) return null;
    const rows = equations.map(([formula, meaning]) => {
      const name = prettyName(formula.split(" ")[0]);
      const found = session.alongside(value).find(each => each.name === name);
      const number = found ? format(session.series(found)[t * found.size + unit]) : "";
      return element(
        "tr",
        {},
        element(
          "td",
          {},
          element("code", { text: formula.replace("'", "′") }),
          element("div", { class: "quiet small", text: meaning }),
        ),
        element("td", { class: "result", text: number }),
      );
    });
    return element("table", { class: "equations" }, element("tbody", {}, ...rows));
  },

  inputs(session, layer, l, t) {
    const from = l ? `the output of layer ${l - 1}` : `the embedding of ${symbolAt(t)}`;
    const state = layer.carry.map(({ name }) => name).join(", ");
    return (
      `${layer.x} is ${from} (${layer.input} numbers)` +
      (state ? `; ${state} is the state that the step before left.` : ".")
    );
  },

  step(id, text, by) {
    const { rows } = mapView.drawn,
      at = rows.indexOf(page.unit) + by;
    return element("button", {
      type: "button",
      id,
      text,
      disabled: !(at in rows),
      on: { click: () => change({ unit: rows[at] }) },
    });
  },

  item(session, run, l, record, unit, t) {
    const layer = session.layers[l],
      { result, detail, fed } = numbers(session, run, l, record.index, unit, t);
    const value = session.valueAt(`${l}:${record.index}`);
    const name = value ? value.name || readable(layer, record.index) : nameOf(layer, record.index);
    const label = value
      ? element("button", {
          type: "button",
          class: "link mono",
          id: `show-${l}-${record.index}`,
          title: "show it in the heatmap",
          text: name,
          on: { click: () => showValue(value) },
        })
      : element("code", { text: name });
    const isClamped = session.changes.clampOf(l, record.index, unit) !== undefined;
    return element(
      "li",
      {},
      label,
      " = ",
      element("span", { class: "result", text: result }),
      detail
        ? element("span", { class: "quiet", text: (isClamped ? ", clamped; else it would be " : " = ") + detail })
        : null,
      fed ? this.products(fed) : null,
    );
  },

  /** The largest products of which a value is the sum, with bars. */
  products({ title, rows }) {
    const most = Math.max(...rows.map(({ product }) => Math.abs(product)), 1e-30);
    return element(
      "table",
      { class: "fed" },
      element("caption", { text: title }),
      element(
        "tbody",
        {},
        ...rows.map(({ of, factors, product }) =>
          element(
            "tr",
            {},
            element("td", { text: of }),
            element("td", { text: factors }),
            element("td", { text: format(product) }),
            element(
              "td",
              { "aria-hidden": "true" },
              element("span", {
                class: product < 0 ? "bar less" : "bar",
                style: `width:${((100 * Math.abs(product)) / most).toFixed(0)}%`,
              }),
            ),
          ),
        ),
      ),
    );
  },
};

/** A line of source as an equation: without the indentation, `self.` and `return`'s need for either. */
const tidy = line => line.trim().replace(/\bself\./g, "");
