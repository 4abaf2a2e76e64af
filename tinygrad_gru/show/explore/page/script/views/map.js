// The heatmap: a value of every unit at every step, its order and filter, its summary and its table.

const NAMES = 34; // pixels on the left for the names of the units
const FOOT = 18; // below for the characters

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
    const { rows, cell, height } = this.drawn;
    const unit = rows[Math.floor(event.offsetY / height)],
      t = Math.floor(event.offsetX / cell);
    if (unit !== undefined && t < page.session.ids.length)
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
    const scale = scaleFor(...extent(values));
    this.drawMap(values, value.size, units, session.symbols, scale);
    this.drawLegend(scale, values.every(Number.isFinite));
    const now = values[t * value.size + page.unit],
      score = made ? `, ${ORDERS[order][1]} ${format(made[page.unit])}` : "";
    const [least, most] = extent(column(values, value.size, page.unit));
    const spread = `over the text its values lie between ${format(least)} and ${format(most)}`;
    setText("map-summary", `${unitTitle(session, value, page.unit)} at ${stepName(t)}: ${value.label} = ${format(now)}${score}; ${spread}.`);
    $("map").setAttribute(
      "aria-label",
      `Heatmap of ${value.label}: ${plural(units.length, "unit")} by ${plural(session.ids.length, "step")}`,
    );
    setText("table-step", `${t}, ${symbolAt(t)}`);
    if ($("table-view").open) this.drawTable(session, value, units, made, t);
  },

  /** The choices of layers and values follow the model; those of characters stand only where they are used. */
  updateChoices(session, value, order) {
    $("given-choice").hidden = order !== "given";
    const key = session.name + value.layer;
    if (this.choices !== key) {
      this.choices = key;
      const { named, unnamed } = session.values[value.layer];
      const made = list => list.map(({ key: at, label }) => ({ value: at, label }));
      setChoices(
        $("value"),
        [
          { label: "values with a name", choices: made(named) },
          { label: "steps between", choices: made(unnamed) },
          { label: "of the whole model", choices: made([session.probabilities]) },
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
    const T = symbols.length,
      cell = Math.max(($("map-scroll").clientWidth - NAMES) / T, 9),
      height = clamp(Math.floor(384 / rows.length), 2, 22);
    this.drawn = { rows, cell, height };
    const small = element("canvas", { width: T, height: rows.length }),
      context = small.getContext("2d");
    const image = context.createImageData(T, rows.length),
      pixels = new Uint32Array(image.data.buffer);
    rows.forEach((unit, r) => {
      for (let t = 0; t < T; t++) pixels[r * T + t] = colourAt(scale, values[t * size + unit]);
    });
    context.putImageData(image, 0, 0);
    const pen = penOf($("map"), Math.floor(cell * T), height * rows.length + FOOT);
    pen.imageSmoothingEnabled = false;
    pen.drawImage(small, 0, 0, cell * T, height * rows.length);
    pen.fillStyle = colourOf("--ink");
    pen.font = `${Math.min(13, cell * 1.4)}px ${colourOf("--mono")}`;
    pen.textAlign = "center";
    symbols.forEach((symbol, t) =>
      pen.fillText(symbol === " " ? "·" : glyph(symbol).slice(0, 3), (t + 0.5) * cell, height * rows.length + 13),
    );
    this.drawCross(pen);
    this.drawNames();
    this.keepInSight(T);
  },

  /** The numbers of the units, where there is room; they stay in sight when the map is scrolled. */
  drawNames() {
    const { rows, height } = this.drawn,
      pen = penOf($("map-units"), NAMES, height * rows.length + FOOT);
    pen.textAlign = "right";
    rows.forEach((unit, r) => {
      const isChosen = unit === page.unit;
      if (height < 10 && !isChosen) return;
      pen.fillStyle = colourOf(isChosen ? "--ink" : "--quiet");
      pen.font = `${isChosen ? "bold " : ""}11px ${colourOf("--mono")}`;
      pen.fillText(unitName(page.session, page.value, unit), NAMES - 5, clamp((r + 0.5) * height + 4, 9, Infinity));
    });
  },

  /** The row of the unit and the column of the step, outlined in the colours of ink and paper, seen on any other. */
  drawCross(pen) {
    const { rows, cell, height } = this.drawn,
      wide = cell * page.session.ids.length;
    for (const [name, width] of [
      ["--card", 4],
      ["--ink", 1.5],
    ]) {
      pen.strokeStyle = colourOf(name);
      pen.lineWidth = width;
      pen.strokeRect(page.t * cell, 0, cell, height * rows.length);
      pen.strokeRect(0, rows.indexOf(page.unit) * height, wide, height);
    }
  },

  /** Scroll to the step when it, or the width of a step, is another than before; else the hand has scrolled. */
  keepInSight(T) {
    const { cell } = this.drawn,
      place = [page.t, T, cell].join(" ");
    if (this.place === place) return;
    this.place = place;
    const box = $("map-scroll"),
      wide = box.clientWidth - NAMES,
      x = page.t * cell;
    if (x < box.scrollLeft || x + cell > box.scrollLeft + wide) box.scrollLeft = x - wide / 2;
  },

  drawLegend(scale, isFinite) {
    const pen = $("legend").getContext("2d"),
      image = pen.createImageData(128, 1),
      pixels = new Uint32Array(image.data.buffer);
    for (let i = 0; i < 128; i++) pixels[i] = scale.table[2 * i];
    pen.putImageData(image, 0, 0);
    const ends = `${format(scale.low)} to ${format(scale.high)}` + (isFinite ? "" : ", magenta where it is not finite");
    setText("legend-text", `${ends}; a row is a unit, a column a character`);
  },

  drawTable(session, value, units, made, t) {
    const shown = session.alongside(value);
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
            text: unitName(session, value, unit),
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
