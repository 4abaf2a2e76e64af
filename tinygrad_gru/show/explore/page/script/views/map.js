// The heatmap: a value of every unit at every step, its order and filter, its summary and its table.

const mapView = {
  start() {
    setChoices(
      $("order"),
      [{ choices: Object.entries(ORDERS).map(([value, [label]]) => ({ value, label })) }],
      page.order,
    );
    const counts = { 0: "all units", 8: "first 8", 24: "first 24", 64: "first 64" };
    setChoices(
      $("count"),
      [{ choices: Object.entries(counts).map(([value, label]) => ({ value, label })) }],
      page.count,
    );
    $("order").addEventListener("change", () => change({ order: $("order").value }));
    $("count").addEventListener("change", () => change({ count: +$("count").value }));
    $("filter").addEventListener("input", () => change({ filter: $("filter").value }));
    $("given").addEventListener("input", () => change({ given: $("given").value }));
    $("value").addEventListener("change", () => showValue(page.session.valueAt($("value").value)));
    $("layer").addEventListener("change", () => showLayer(+$("layer").value));
    $("table-view").addEventListener("toggle", draw);
    const canvas = $("map");
    canvas.addEventListener("click", event => this.goTo(event));
    canvas.addEventListener("keydown", event => this.press(event));
    addEventListener("resize", draw);
  },

  goTo(event) {
    const { rows, cell, height, left } = this.drawn;
    const unit = rows[Math.floor(event.offsetY / height)],
      t = Math.floor((event.offsetX - left) / cell);
    if (unit !== undefined && t >= 0 && t < page.session.ids.length)
      change({ unit, t, tab: page.tab === "unit" || page.tab === "walk" ? page.tab : "unit" });
  },

  press(event) {
    const move = {
      ArrowLeft: [-1, 0],
      ArrowRight: [1, 0],
      ArrowUp: [0, -1],
      ArrowDown: [0, 1],
      PageUp: [0, -10],
      PageDown: [0, 10],
      Home: [-Infinity, 0],
      End: [Infinity, 0],
    }[event.key];
    if (!move) return;
    event.preventDefault();
    const { rows } = this.drawn,
      at = rows.indexOf(page.unit);
    change({
      t: clamp(page.t + move[0], 0, page.session.ids.length - 1),
      unit: rows[clamp(at + move[1], 0, rows.length - 1)],
    });
  },

  update({ session, value, t, order, filter, given, count }) {
    this.updateChoices(session, value, order);
    const { units, scores: made, note } = chooseUnits(value, session, { order, filter, given, count, t });
    setText("filter-note", note);
    if (!units.includes(page.unit)) page.unit = units[0];
    const values = session.series(value);
    let low = Infinity,
      high = -Infinity;
    for (const v of values) ((low = Math.min(low, v)), (high = Math.max(high, v)));
    const scale = scaleFor(low, high);
    this.drawMap(values, value.size, units, session.symbols, scale);
    this.drawLegend(scale);
    const now = values[t * value.size + page.unit],
      score = made ? `, ${ORDERS[order][1]} ${format(made[page.unit])}` : "";
    const spread = `over the text its values lie between ${this.extent(values, value.size, page.unit)}`;
    setText("map-summary", `Unit ${page.unit} at ${stepName(t)}: ${value.label} = ${format(now)}${score}; ${spread}.`);
    $("map").setAttribute(
      "aria-label",
      `Heatmap of ${value.label}: ${plural(units.length, "unit")} by ${plural(session.ids.length, "step")}`,
    );
    setText("table-step", `${t}, ${symbolAt(t)}`);
    if ($("table-view").open) this.drawTable(session, value, units, made, t);
  },

  extent(values, size, unit) {
    let low = Infinity,
      high = -Infinity;
    for (let at = unit; at < values.length; at += size)
      ((low = Math.min(low, values[at])), (high = Math.max(high, values[at])));
    return `${format(low)} and ${format(high)}`;
  },

  /** The choices of layers and values follow the model; those of characters stand only where they are used. */
  updateChoices(session, value, order) {
    $("given-choice").hidden = order !== "given";
    const key = session.name + value.layer;
    if (this.choices !== key) {
      this.choices = key;
      const { named, unnamed } = session.values[value.layer];
      const made = list => list.map(({ key: at, title, label }) => ({ value: at, label: title || label }));
      setChoices(
        $("value"),
        [
          { label: "values with a name", choices: made(named) },
          { label: "steps between", choices: made(unnamed) },
        ],
        value.key,
      );
      const layers = session.layers.map((layer, l) => ({ value: l, label: `${l} ${layer.cell} (${layer.name})` }));
      setChoices($("layer"), [{ choices: layers.filter(({ value: l }) => session.values[l].all.length) }], value.layer);
      $("layer-choice").hidden = layers.length < 2;
    }
    $("value").value = value.key;
    $("layer").value = value.layer;
    $("order").value = order;
    $("count").value = page.count;
    if ($("filter").value !== page.filter) $("filter").value = page.filter;
  },

  drawMap(values, size, rows, symbols, scale) {
    const canvas = $("map"),
      T = symbols.length,
      width = $("map-scroll").clientWidth,
      ratio = devicePixelRatio || 1;
    const height = clamp(Math.floor(384 / rows.length), 2, 22),
      left = height >= 10 ? 30 : 0;
    const cell = Math.max((width - left) / T, 5),
      foot = cell >= 6 ? 18 : 0;
    const wide = Math.round(left + cell * T),
      high = height * rows.length + foot;
    this.drawn = { rows, cell, height, left };
    canvas.style.width = wide + "px";
    canvas.style.height = high + "px";
    canvas.width = Math.round(wide * ratio);
    canvas.height = Math.round(high * ratio);
    const small = element("canvas", { width: T, height: rows.length }),
      context = small.getContext("2d");
    const image = context.createImageData(T, rows.length),
      pixels = new Uint32Array(image.data.buffer);
    rows.forEach((unit, r) => {
      for (let t = 0; t < T; t++) pixels[r * T + t] = colourAt(scale, values[t * size + unit]);
    });
    context.putImageData(image, 0, 0);
    const pen = canvas.getContext("2d"),
      style = getComputedStyle(document.documentElement);
    pen.scale(ratio, ratio);
    pen.imageSmoothingEnabled = false;
    pen.drawImage(small, left, 0, wide - left, height * rows.length);
    this.drawNames(pen, symbols, foot, style);
    this.drawCross(pen, wide, style);
  },

  /** The numbers of the units on the left and the characters below, where there is room. */
  drawNames(pen, symbols, foot, style) {
    const { rows, cell, height, left } = this.drawn;
    pen.fillStyle = style.getPropertyValue("--quiet");
    pen.font = `11px ${style.getPropertyValue("--mono")}`;
    pen.textAlign = "right";
    if (left) rows.forEach((unit, r) => pen.fillText(unit, left - 4, (r + 0.5) * height + 4));
    pen.font = `${Math.min(13, cell * 1.5)}px ${style.getPropertyValue("--mono")}`;
    pen.textAlign = "center";
    if (foot)
      symbols.forEach((symbol, t) =>
        pen.fillText(
          symbol === " " ? "·" : glyph(symbol).slice(0, 3),
          left + (t + 0.5) * cell,
          height * rows.length + 13,
        ),
      );
  },

  /** The row of the unit and the column of the step, outlined in the colours of ink and paper, seen on any other. */
  drawCross(pen, wide, style) {
    const { rows, cell, height, left } = this.drawn,
      x = left + page.t * cell,
      y = rows.indexOf(page.unit) * height;
    for (const [name, width] of [
      ["--card", 4],
      ["--ink", 1.5],
    ]) {
      pen.strokeStyle = style.getPropertyValue(name);
      pen.lineWidth = width;
      pen.strokeRect(x - 1, -4, cell + 2, height * rows.length + 8);
      pen.strokeRect(left - 4, y - 1, wide - left + 8, height + 2);
    }
  },

  drawLegend(scale) {
    const pen = $("legend").getContext("2d"),
      image = pen.createImageData(128, 1),
      pixels = new Uint32Array(image.data.buffer);
    for (let i = 0; i < 128; i++) pixels[i] = scale.table[2 * i];
    pen.putImageData(image, 0, 0);
    setText("legend-text", `${format(scale.low)} to ${format(scale.high)}; a row is a unit, a column a character`);
  },

  drawTable(session, value, units, made, t) {
    const { named } = session.values[value.layer];
    const shown = (named.includes(value) ? named : [value, ...named]).filter(({ size }) => size === value.size);
    const heads = ["unit", ...shown.map(({ label }) => label), ...(made ? [ORDERS[page.order][1]] : [])];
    const lines = units.map(unit =>
      element(
        "tr",
        { class: unit === page.unit ? "here" : null },
        element(
          "td",
          {},
          element("button", {
            type: "button",
            class: "link",
            id: "unit-" + unit,
            text: unit,
            on: { click: () => change({ unit }) },
          }),
        ),
        ...shown.map(each => element("td", { text: format(session.series(each)[t * each.size + unit]) })),
        made ? element("td", { text: format(made[unit]) }) : null,
      ),
    );
    fill(
      $("table"),
      element(
        "table",
        {},
        element("thead", {}, element("tr", {}, ...heads.map(text => element("th", { scope: "col", text })))),
        element("tbody", {}, ...lines),
      ),
    );
  },
};
