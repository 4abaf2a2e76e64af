// The curves below the heatmap: every value with a name of one unit, over the text.

const curvesView = {
  HIGH: 132,
  hidden: new Set(), // names that are switched off

  start() {
    $("curves").addEventListener("click", event => {
      const { left } = $("curves").getBoundingClientRect();
      const t = Math.floor((event.clientX - left) / mapView.drawn.cell);
      change({ t: clamp(t, 0, page.session.ids.length - 1) });
    });
  },

  update({ session, value, unit, t }) {
    const curves = session.alongside(value).map((each, i) => {
      const values = column(session.series(each), each.size, unit);
      const [low, high] = extent(values),
        most = Math.max(-low, high, 1);
      return { i, name: each.name || each.label, isState: each.isState, values, low, high, most };
    });
    setText("curves-title", `${unitTitle(session, value, unit)}, over the text; at ${stepName(t)}:`);
    fill($("curves-keys"), ...curves.map(each => this.key(each, t)));
    const shown = curves.filter(({ name }) => !this.hidden.has(name));
    this.draw(shown, session.ids.length, t);
    const words = shown.map(({ name, low, high }) => `${name} between ${format(low)} and ${format(high)}`);
    $("curves").setAttribute("aria-label", `${unitTitle(session, value, unit)} over the text: ${words.join(", ")}.`);
  },

  /** A line's name and its number at the step, which switches the line on and off. Wide ones are drawn smaller. */
  key({ i, name, values, most }, t) {
    const click = () => {
      if (!this.hidden.delete(name)) this.hidden.add(name);
      draw();
    };
    const box = element("input", { type: "checkbox", id: "curve-" + i, on: { click } });
    box.checked = !this.hidden.has(name);
    return element("label", {}, box, swatch(i), element("span", { text: `${name} = ${format(values[t])}` + (most > 1 ? `, drawn ÷ ${format(most)}` : "") }));
  },

  draw(curves, T, t) {
    const { cell } = mapView.drawn,
      wide = cell * T,
      high = this.HIGH;
    const bottom = curves.some(({ low }) => low < 0) ? -1 : 0,
      marks = bottom ? [-1, 0, 1] : [0, 1];
    const x = at => (at + 0.5) * cell,
      y = v => 8 + ((1 - v) / (1 - bottom)) * (high - 16);
    const picture = $("curves");
    for (const [each, width] of [
      [picture, wide],
      [$("curves-axis"), NAMES],
    ]) {
      each.setAttribute("viewBox", `0 0 ${width} ${high}`);
      each.style.width = width + "px";
      each.style.height = high + "px";
    }
    fill(
      $("curves-axis"),
      ...marks.map(v => svg("text", { x: NAMES - 5, y: y(v) + 4, "text-anchor": "end" }, format(v))),
    );
    fill(
      picture,
      svg("rect", { class: "here", x: t * cell, y: 0, width: cell, height: high }),
      ...marks.map(v => svg("line", { class: "axis", x1: 0, x2: wide, y1: y(v), y2: y(v) })),
      ...curves.map(({ i, values, isState, most }) => curve(i, values, x, v => y(v / most), isState ? 3 : 1.5)),
    );
  },
};
