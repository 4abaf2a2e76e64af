// The walk backward from a step's loss: record by record, each cotangent beside its finite difference.

const walkView = {
  title: "Walk backward",

  start() {
    const button = (id, text, by, keys, label) =>
      element("button", {
        type: "button",
        id,
        text,
        class: id === "walk-back" ? "main" : null,
        "aria-label": label,
        "aria-keyshortcuts": keys,
        on: { click: () => this.go(by) },
      });
    fill(
      $("panel-walk"),
      element("h2", { text: "Backward from one loss" }),
      element(
        "div",
        { class: "row" },
        element("label", { for: "loss-step", text: "The loss at step" }),
        element("input", {
          type: "number",
          id: "loss-step",
          min: 0,
          step: 1,
          style: "width:5.5rem",
          on: { input: () => this.choose(+$("loss-step").value) },
        }),
        element("button", {
          type: "button",
          id: "loss-here",
          text: "at the step shown",
          on: { click: () => this.choose(page.t) },
        }),
        element("button", {
          type: "button",
          id: "loss-worst",
          text: "the largest",
          on: { click: () => this.chooseWorst() },
        }),
      ),
      element("p", { id: "walk-loss" }),
      element(
        "div",
        { class: "row", role: "group", "aria-label": "Walk" },
        button("walk-step", "◀◀ step", "step", "Shift+ArrowLeft", "Back one step of time"),
        button("walk-back", "◀ record", 1, "ArrowLeft", "Back one record"),
        button("walk-on", "record ▶", -1, "ArrowRight", "One record toward the loss"),
        button("walk-loss-again", "loss ▶▶", "loss", "Home", "To the loss"),
      ),
      element("p", {
        class: "quiet small",
        text: "Back in time is to the left. Keys in this panel: ← → a record, Shift ← a step of time, Home the loss.",
      }),
      element("div", { id: "walk-record" }),
      element("canvas", {
        class: "cotangents",
        id: "cotangents",
        role: "img",
        on: { click: event => this.pick(event) },
      }),
      element("p", { id: "cotangents-text", class: "small" }),
    );
    $("panel-walk").addEventListener("keydown", event => this.press(event));
  },

  choose(t) {
    const lossStep = clamp(Math.trunc(t) || 0, 0, page.session.ids.length - 2);
    change({ lossStep, walk: 0, t: lossStep });
  },

  chooseWorst() {
    const losses = page.session.run.losses.subarray(0, page.session.ids.length - 1);
    this.choose(losses.indexOf(Math.max(...losses)));
  },

  press(event) {
    if (/^(INPUT|SELECT)$/.test(event.target.tagName)) return;
    const by = { ArrowLeft: event.shiftKey ? "step" : 1, ArrowRight: -1, Home: "loss" }[event.key];
    if (by === undefined) return;
    event.preventDefault();
    this.go(by);
  },

  go(by) {
    const { session, lossStep, walk } = page,
      path = walkPath(session, lossStep);
    let to = by === "loss" ? 0 : walk + by;
    if (by === "step") {
      to = path.findIndex(({ t }) => t < path[walk].t);
      if (to < 0) to = path.length - 1;
    }
    to = clamp(to, 0, path.length - 1);
    change({ walk: to, t: path[to].t });
  },

  pick(event) {
    const { size } = this.shown;
    const unit = Math.floor((event.offsetX / $("cotangents").clientWidth) * size);
    if (size === page.value.size) change({ unit: clamp(unit, 0, size - 1) });
  },

  update({ session, lossStep, walk, unit, value }) {
    const path = walkPath(session, lossStep),
      place = path[Math.min(walk, path.length - 1)];
    const gradients = session.gradients(lossStep),
      { run } = session,
      { record } = place;
    const cotangent = row(gradients.cotangents[place.layer][place.index], record.size, place.t);
    const sizes = cotangent.map(Math.abs),
      largest = Math.max(sizes.indexOf(Math.max(...sizes)), 0); // of NaN there is no largest
    const isSame = record.size === value.size,
      chosen = isSame ? unit : largest;
    this.shown = { size: record.size };
    const input = $("loss-step");
    input.max = session.ids.length - 2;
    if (document.activeElement !== input) input.value = lossStep;
    setText(
      "walk-loss",
      `L = −log p(${quoted(session.symbols[lossStep + 1])} after ${symbolAt(lossStep)}) = ${format(run.losses[lossStep])} nats`,
    );
    $("walk-back").disabled = $("walk-step").disabled = walk >= path.length - 1;
    $("walk-on").disabled = $("walk-loss-again").disabled = walk === 0;
    this.showRecord(session, place, lossStep, cotangent, chosen, isSame, walk, path.length);
    this.drawCotangent(cotangent, chosen);
    const order = Array.from(sizes.keys())
      .sort((a, b) => sizes[b] - sizes[a])
      .slice(0, 5);
    setText(
      "cotangents-text",
      `The cotangent of all ${record.size}: largest at ${order.map(k => `${k} (${format(cotangent[k])})`).join(", ")}.` +
        (isSame ? " Click a bar for its unit." : ""),
    );
    $("cotangents").setAttribute("aria-label", $("cotangents-text").textContent);
  },

  showRecord(session, place, lossStep, cotangent, chosen, isSame, walk, count) {
    const { record, layer: l, t } = place,
      layer = session.layers[l],
      total = norm(cotangent);
    const one = new Float32Array(record.size),
      along = cotangent.map(v => (total ? v / total : 0));
    one[chosen] = 1;
    const rows = [
      [
        `∂L/∂ of unit ${chosen}${isSame ? "" : ", the largest"}`,
        cotangent[chosen],
        difference(session, place, lossStep, one),
      ],
      ["along the cotangent, its norm", total, difference(session, place, lossStep, along)],
    ];
    const steps = [...new Set(rows.map(([, , { epsilon }]) => epsilon))].join(" and ");
    const when = t === lossStep ? "at the step of the loss" : plural(lossStep - t, "step") + " before it";
    const value = session.valueAt(place.key),
      name = value.name || readable(layer, record.index);
    fill(
      $("walk-record"),
      element("p", { text: `Record ${walk + 1} of ${count}: ${when}, ${stepName(t)}` }),
      record.line === null ? null : element("pre", { class: "line", text: tidy(layer.source[record.line] || "") }),
      element(
        "p",
        {},
        element("span", { class: "quiet", text: "record: " }),
        element("code", {
          id: "walk-name",
          text: value.name
            ? `${name} = ${record.op}(${record.inputs.map(ref => nameOf(layer, ref)).join(", ")})`
            : name,
        }),
      ),
      element(
        "p",
        { class: "small" },
        element("span", { class: "quiet", text: "its cotangent came from " }),
        this.sources(session, place, lossStep),
      ),
      this.rule(layer, record, session.changes.clampOf(l, record.index, chosen)),
      element(
        "table",
        { id: "walk-table" },
        element(
          "thead",
          {},
          element(
            "tr",
            {},
            ...["", "cotangent", "finite difference"].map(text => element("th", { scope: "col", text })),
          ),
        ),
        element(
          "tbody",
          {},
          ...rows.map(([text, exact, found]) =>
            element(
              "tr",
              {},
              element("td", { text }),
              element("td", { text: format(exact) }),
              element(
                "td",
                {},
                `${format(found.value)} ± ${format(found.uncertainty)}`,
                element("br"),
                verdict(exact, found),
              ),
            ),
          ),
        ),
      ),
      element("p", {
        class: "quiet small",
        text:
          `Differences of runs in ${session.info.dtype} with steps of ${steps} ` +
          "and of half of that, whose errors cancel to the fourth order; ± is what rounding and the steps leave uncertain.",
      }),
    );
  },

  /** How the cotangent is passed on: the op's rule, and what its letters are here. */
  rule(layer, { op, inputs, index }, clamped) {
    if (clamped) return element("p", { class: "small", text: "It is clamped, so that nothing is passed on." });
    if (!page.equations[op]) return null;
    const { rule, inputs: letters } = page.equations[op],
      uses = letter => new RegExp(`(^|[^\\w∂])${letter}([^\\w]|$)`).test(rule.replace(/∂L\/∂\w+/g, ""));
    const meanings = letters.slice(0, inputs.length).map((letter, i) => `${letter} = ${nameOf(layer, inputs[i])}`);
    if (uses("y")) meanings.push(`y = ${nameOf(layer, index)}`);
    return element(
      "p",
      { class: "small" },
      element("span", { class: "quiet", text: "passed on by the rule " }),
      element("code", { text: rule }),
      element("span", { class: "quiet", text: `, where ${meanings.join(", ")}, and g is the cotangent` }),
    );
  },

  /** What used the record and so handed it its cotangent. */
  sources(session, { record, layer: l, t }, lossStep) {
    const layer = session.layers[l];
    const users = layer.records
      .filter(({ inputs }) => inputs.includes(record.index))
      .map(({ index }) => nameOf(layer, index));
    if (layer.output === record.index && t === lossStep)
      users.push(
        l + 1 < session.layers.length
          ? `layer ${l + 1} (${session.layers[l + 1].cell})`
          : "the loss: p − 1 at what came, p elsewhere",
      );
    if (layer.output === record.index && t < lossStep && session.layers.slice(l + 1).some(({ carry }) => carry.length))
      users.push(`layer ${l + 1}`);
    layer.next.forEach((next, part) => {
      if (next === record.index && t < lossStep) users.push(`the step after, as ${layer.carry[part].name}`);
    });
    return users.length ? users.join(" and ") : "nothing: it is zero";
  },

  drawCotangent(cotangent, chosen) {
    const wide = $("panel-walk").clientWidth,
      high = 52,
      step = wide / cotangent.length;
    const pen = penOf($("cotangents"), wide, high),
      most = Math.max(...cotangent.map(Math.abs), 1e-30);
    cotangent.forEach((v, k) => {
      pen.fillStyle = colourOf(k === chosen ? "--good" : v < 0 ? "--line-2" : "--accent");
      const tall = (Math.abs(v) / most) * (high / 2 - 2);
      pen.fillRect(k * step, v < 0 ? high / 2 : high / 2 - tall, Math.max(step - 0.5, 0.7), Math.max(tall, 0.5));
    });
  },
};

/** The records from the loss at a step to the beginning: those through which its gradient goes, last first. */
function walkPath(session, lossStep) {
  return session.once("path " + lossStep, () => {
    const places = t =>
      session.layers
        .map((_, l) => l)
        .reverse()
        .filter(l => t === lossStep || session.layers[l].carry.length)
        .flatMap(l =>
          session.values[l].all
            .map(value => ({ ...value, t }))
            .filter(({ record }) => record.differentiable)
            .sort((a, b) => b.index - a.index),
        );
    const top = session.layers.reduce((found, { carry }, l) => (carry.length ? l : found), session.layers.length);
    return Array.from({ length: lossStep + 1 }, (_, k) => lossStep - k).flatMap(t =>
      places(t).filter(({ layer }) => t === lossStep || layer <= top),
    );
  });
}

/** Whether a cotangent and its finite difference agree, in words. */
function verdict(exact, { value, uncertainty }) {
  const off = Math.abs(exact - value),
    agrees = off <= 3 * uncertainty + 2e-3 * Math.abs(exact);
  const isTiny = Math.abs(exact) <= 3 * uncertainty;
  const text = !agrees
    ? `✗ differ by ${format(off)}`
    : isTiny
      ? "✓ within ±, too small to say more"
      : `✓ agree to ${percent(off / Math.abs(exact))}`;
  return element("span", { class: agrees ? "good" : "bad", text });
}
