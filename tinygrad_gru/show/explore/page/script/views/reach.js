// How far back a loss reaches: the norm of its gradient by the state k steps before, of the models of the page.

const reachView = {
  title: "Reach",

  update({ sessions, session, lossStep, text }) {
    const curves = sessions.map(each => {
      if (each !== session && each.readText !== text) each.readText = (each.read(text), text);
      const t = Math.min(lossStep, each.ids.length - 2);
      return {
        name: each.name + (each.changes.list.length ? ", changed" : ""),
        values: each.ids.length ? reach(each, t) : [],
      };
    });
    const fresh = page.fresh.map(({ name, values }) => ({ name, values }));
    const all = [...curves, ...fresh].filter(({ values }) => values.length);
    fill(
      $("panel-reach"),
      element("h2", { text: "How far back the gradient reaches" }),
      element(
        "p",
        {},
        element("code", { text: "‖∂L_t / ∂(state k steps before)‖" }),
        ` of the loss at ${stepName(lossStep)}. `,
        element("button", {
          type: "button",
          class: "link",
          id: "reach-last",
          text: "the last loss",
          on: { click: () => walkView.choose(session.ids.length - 2) },
        }),
        " ",
        element("button", {
          type: "button",
          class: "link",
          id: "reach-here",
          text: "the loss at the step shown",
          on: { click: () => walkView.choose(page.t) },
        }),
      ),
      chart(all),
      element(
        "ul",
        { class: "values", id: "reach-text" },
        ...all.map((each, i) => element("li", {}, swatch(i), inWords(each))),
      ),
      fresh.length
        ? element("p", {
            class: "quiet small",
            text:
              "Before training: models of the same size with the weights that training begins with, on the " +
              "text that the page began with, from its last loss; computed when the page was made. Give " +
              "other runs beside this one to see trained ones.",
          })
        : null,
      element(
        "details",
        {},
        element("summary", { text: "As a table" }),
        element("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "Norms" }, this.table(all)),
      ),
    );
  },

  table(curves) {
    const most = Math.max(...curves.map(({ values }) => values.length));
    const ks = Array.from({ length: most }, (_, i) => i + 1).filter(k => k <= 10 || k % 10 === 0);
    return element(
      "table",
      {},
      element(
        "thead",
        {},
        element(
          "tr",
          {},
          ...["k", ...curves.map(({ name }) => name)].map(text => element("th", { scope: "col", text })),
        ),
      ),
      element(
        "tbody",
        {},
        ...ks.map(k =>
          element(
            "tr",
            {},
            element("td", { text: k }),
            ...curves.map(({ values }) => element("td", { text: k <= values.length ? format(values[k - 1]) : "" })),
          ),
        ),
      ),
    );
  },
};

/** Norms of ∂L_t/∂(the state of all layers before step t + 1 − k), for k = 1 … t + 1. */
function reach(session, t) {
  const { carry } = session.gradients(t);
  return Array.from({ length: t + 1 }, (_, i) => {
    const squares = session.layers.flatMap((layer, l) =>
      layer.carry.map(({ size }, part) => norm(row(carry[l][part], size, t - i)) ** 2),
    );
    return Math.sqrt(squares.reduce((sum, square) => sum + square, 0));
  });
}

function inWords({ name, values }) {
  const tenth = values.findIndex(v => v < values[0] / 10),
    last = values.length - 1;
  const fall = tenth < 0 ? "never falls to a tenth of that" : `falls to a tenth of that after ${plural(tenth, "step")}`;
  return `${name}: ${format(values[0])} one step back, ${fall}, ${format(values[last])} at ${values.length}.`;
}

/** The curves over k, the norms on a logarithmic axis. */
function chart(curves) {
  const wide = clamp($("panel-reach").clientWidth, 280, 640),
    high = 260,
    left = 46,
    foot = 34,
    lowest = 1e-16;
  const values = curves
    .flatMap(each => each.values)
    .filter(v => v > lowest && v < Infinity)
    .map(Math.log10);
  const top = Math.ceil(Math.max(...values, -11)),
    bottom = Math.min(Math.floor(Math.min(...values, top - 1)), top - 1),
    most = Math.max(...curves.map(each => each.values.length), 2);
  const x = k => left + ((k - 1) / (most - 1)) * (wide - left - 10),
    y = v => 10 + ((top - Math.max(Math.log10(v), bottom)) / (top - bottom)) * (high - foot - 10);
  const made = svg("svg", {
    class: "chart",
    viewBox: `0 0 ${wide} ${high}`,
    role: "img",
    "aria-label": "Norm of the gradient over steps back. " + curves.map(inWords).join(" "),
  });
  const every = Math.ceil((top - bottom) / 6);
  for (let e = top; e >= bottom; e -= every)
    made.append(
      svg("line", { class: "axis", x1: left, x2: wide - 10, y1: y(10 ** e), y2: y(10 ** e) }),
      svg(
        "text",
        { x: left - 6, y: y(10 ** e) + 4, "text-anchor": "end" },
        e === 0 ? "1" : "1e" + String(e).replace("-", "−"),
      ),
    );
  const stride = [1, 2, 5, 10, 20, 50, 100, 200, 500].find(each => most / each <= 8) || 500;
  for (let k = stride; k <= most; k += stride)
    made.append(svg("text", { x: x(k), y: high - foot + 18, "text-anchor": "middle" }, k));
  made.append(svg("text", { x: (wide + left) / 2, y: high - 2, "text-anchor": "middle" }, "k, steps back"));
  made.append(...curves.map(({ values: norms }, i) => curve(i, norms, k => x(k + 1), v => (v > lowest ? y(v) : NaN))));
  return made;
}
