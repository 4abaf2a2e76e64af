// The text: what is read, how much each character surprised the model, the step, and what comes next.

const textView = {
  start() {
    $("text").addEventListener("input", () => readText($("text").value));
    $("step").addEventListener("input", () => change({ t: +$("step").value }));
    $("step-back").addEventListener("click", () => change({ t: Math.max(page.t - 1, 0) }));
    $("step-on").addEventListener("click", () => change({ t: Math.min(page.t + 1, page.session.ids.length - 1) }));
    $("play").addEventListener("click", () => this.play(!this.timer));
    $("strip").addEventListener("click", event => {
      if (event.target.dataset.t) change({ t: +event.target.dataset.t });
    });
  },

  /** Go on by a step four times a second, to the end of the text; from its beginning if that is where it stands. */
  play(isOn) {
    clearInterval(this.timer);
    this.timer = isOn ? setInterval(() => this.goOn(), 250) : null;
    setText("play", isOn ? "Pause" : "Play");
    if (isOn && page.t === page.session.ids.length - 1) change({ t: 0 });
  },

  goOn() {
    if (page.t < page.session.ids.length - 1) change({ t: page.t + 1 });
    else this.play(false);
  },

  update({ session, t, tab, lossStep }) {
    const { run, changes, symbols } = session;
    const loss = session.meanLoss(run),
      made = changes.list.length ? session.meanLoss(session.original) : null;
    const unit = session.tokens.isText ? "nats/char" : "nats/symbol";
    setText("loss", `Loss ${format(loss)} ${unit}`);
    setText(
      "loss-note",
      made === null ? "" : `· as it was made ${format(made)} (${loss > made ? "+" : ""}${format(loss - made)})`,
    );
    setText(
      "loss-meaning",
      "A loss is −log p of what came, in nats (a natural logarithm), and shown is the mean. " +
        (Number.isFinite(loss)
          ? `${format(loss)} nats: as unsure as among e^${format(loss)} = ${format(Math.exp(loss))} equally likely symbols.`
          : "It is not finite: weights or values have become so."),
    );
    this.drawStrip(run, symbols, t, tab === "walk" || tab === "reach" ? lossStep : null);
    const last = symbols.length - 1;
    $("step").max = last;
    $("step").value = t;
    $("step").setAttribute("aria-valuetext", `${t} of ${last}, ${symbolAt(t)}`);
    setText("step-now", `${t} of ${last}, ${symbolAt(t)}`);
    $("step-back").disabled = t === 0;
    $("step-on").disabled = t === last;
    this.drawNext(run, symbols, t);
  },

  drawStrip(run, symbols, t, lossStep) {
    const strip = $("strip");
    if (strip.children.length !== symbols.length || this.symbols !== symbols) {
      this.symbols = symbols;
      const gap = page.session.tokens.isText ? "" : " ";
      fill(
        strip,
        ...symbols.flatMap((symbol, i) => {
          const shown = element("span", { "data-t": i, text: (symbol === " " ? "\u00a0" : glyph(symbol)) + gap });
          return symbol === "\n" ? [shown, element("br")] : [shown];
        }),
      );
      this.spans = [...strip.querySelectorAll("span")];
    }
    this.spans.forEach((span, i) => {
      const strength = i ? Math.min(run.losses[i - 1] / 6, 1) : 0; // 6 nats: one in 400
      span.style.backgroundColor = `rgba(var(--surprise), ${(0.75 * strength).toFixed(3)})`;
      span.className = i === t ? "here" : lossStep !== null && i === lossStep + 1 ? "source" : "";
    });
  },

  drawNext(run, symbols, t) {
    const V = page.session.info.symbols,
      probabilities = row(run.probabilities, V, t);
    const order = Array.from(probabilities.keys()).sort((a, b) => probabilities[b] - probabilities[a] || a - b);
    const next = t + 1 < symbols.length ? page.session.ids[t + 1] : -1;
    const shown = order.slice(0, 8);
    if (next >= 0 && !shown.includes(next)) shown.push(next);
    const known = page.session.tokens.symbols;
    const what =
      next < 0
        ? "the text ends here"
        : `what does come is ${quoted(known[next])}, place ${order.indexOf(next) + 1} of ${V}: ` +
          `−log ${percent(probabilities[next])} = ${format(run.losses[t])} nats`;
    setText("next-note", `After ${symbolAt(t)} (step ${t}); ${what}.`);
    fill(
      $("next"),
      ...shown.map(id =>
        element(
          "li",
          { class: id === next ? "true" : null },
          element("code", { text: glyph(known[id]) + (id === next ? " ✓" : "") }),
          element("span", { class: "bar", style: `width:${(100 * probabilities[id]).toFixed(2)}%` }),
          element("span", { text: percent(probabilities[id]) }),
        ),
      ),
    );
  },
};
