// Text that the model writes: after the text that it reads, sampled with temperature, top-p and a seed.

const writer = {
  settings: { length: 120, temperature: 0.7, topP: 0.95, seed: 1 },

  /** What the model writes after the text; `original`: the model as it was made. */
  write(session, { length, temperature, topP, seed }, original = false) {
    const call = () => {
      try {
        return session.tokens.decode(
          session.model.generate(session.ids, length, { temperature, topP, seed, inspect: session.changes.inspect() }),
        );
      } catch (error) {
        // the logits are not finite: weights that diverged, or a clamp to a huge number
        return `[${error.message}]`;
      }
    };
    const key = ["written", original, length, temperature, topP, seed].join(" ");
    return session.once(key, original && session.changes.list.length ? () => session.changes.without(call) : call);
  },

  /** Call a function when the page has been drawn; only the last one that was asked for. */
  later(call) {
    clearTimeout(this.timer);
    this.timer = setTimeout(call, 30);
  },
};

const writeView = {
  title: "Let it write",

  start() {
    const { settings } = writer;
    const control = (name, label, properties) =>
      element(
        "div",
        { class: "row" },
        element("label", { for: "write-" + name, text: label }),
        element("input", {
          id: "write-" + name,
          value: settings[name],
          ...properties,
          on: { input: () => this.set(name) },
        }),
        element("output", { id: `write-${name}-now`, for: "write-" + name }),
      );
    fill(
      $("panel-write"),
      element("h2", { text: "What it writes after the text" }),
      control("temperature", "Temperature", { type: "range", min: 0, max: 2, step: 0.05 }),
      control("topP", "Top-p", { type: "range", min: 0.05, max: 1, step: 0.05 }),
      control("length", "Length", { type: "range", min: 20, max: 400, step: 20 }),
      control("seed", "Seed", { type: "number", min: 0, max: 999999, step: 1, style: "width:7rem" }),
      element("p", {
        class: "quiet small",
        text:
          "The logits are divided by the temperature: 0 takes the likeliest, 1 samples from what the model " +
          "says. Top-p keeps the likeliest characters that together have this probability. The same seed " +
          "gives the same text.",
      }),
      element(
        "div",
        { class: "row" },
        element("button", {
          type: "button",
          class: "main",
          id: "write-again",
          text: "Another seed",
          on: {
            click: () => {
              settings.seed += 1;
              $("write-seed").value = settings.seed;
              draw();
            },
          },
        }),
        element("button", {
          type: "button",
          id: "write-use",
          text: "Read it: text and continuation",
          on: { click: () => this.use() },
        }),
      ),
      element("div", {
        class: "written",
        id: "written",
        role: "status",
        "aria-label": "The text and its continuation",
      }),
    );
  },

  set(name) {
    const value = $("write-" + name).value;
    if (value !== "" && Number.isFinite(+value))
      writer.settings[name] = name === "seed" ? Math.abs(Math.trunc(+value)) : +value;
    draw();
  },

  use() {
    const text = page.text + (page.session.tokens.isText ? "" : " ") + writer.write(page.session, writer.settings);
    $("text").value = text;
    readText(text);
  },

  update({ session }) {
    const { settings } = writer;
    setText("write-temperature-now", format(settings.temperature));
    setText("write-topP-now", format(settings.topP));
    setText("write-length-now", plural(settings.length, session.tokens.isText ? "character" : "symbol"));
    writer.later(() => {
      const prompt = session.ids.slice(-60),
        more = writer.write(session, settings);
      fill(
        $("written"),
        element("b", {
          text:
            (session.ids.length > 60 ? "…" : "") + session.tokens.decode(prompt) + (session.tokens.isText ? "" : " "),
        }),
        more,
      );
    });
  },
};
