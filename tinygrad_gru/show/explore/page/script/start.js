// The beginning: the models, the tabs, what to try, and the text.

const PANELS = { unit: unitView, change: changeView, walk: walkView, reach: reachView, write: writeView };

function startTabs() {
  const names = Object.keys(PANELS);
  page.panels = { ...PANELS };
  for (const name of names) {
    $("tabs").append(
      element("button", {
        type: "button",
        role: "tab",
        id: "tab-" + name,
        "aria-controls": "panel-" + name,
        text: PANELS[name].title,
        on: { click: () => change({ tab: name }) },
      }),
    );
  }
  $("tabs").addEventListener("keydown", event => {
    const by = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (!by) return;
    event.preventDefault();
    const tab = names[(names.indexOf(page.tab) + by + names.length) % names.length];
    change({ tab });
    $("tab-" + tab).focus();
  });
  page.views.push({
    update: ({ tab }) => {
      for (const name of names) {
        $("panel-" + name).hidden = name !== tab;
        $("tab-" + name).setAttribute("aria-selected", name === tab);
        $("tab-" + name).tabIndex = name === tab ? 0 : -1;
      }
    },
  });
}

/** What a gate of a known cell does when it is clamped to 0; of others its name is all that is known. */
const WITHOUT = {
  "GRUCell z": "the state stays what it was, so nothing of what is read is remembered",
  "MGUCell f": "the state stays what it was, so nothing of what is read is remembered",
  "LSTMCell f": "at every step all that was stored is forgotten",
};

const LOOK = "Look at the loss and at what it writes now; then Undo.";

/** What the curves of a unit that remembers show, of the cells that are known. */
function remembering(session, layer) {
  const { cell } = session.layers[layer],
    { named } = session.values[layer];
  const has = name => named.some(value => value.name === name);
  if (/^GRU/.test(cell) && has("z") && has("h̃"))
    return "See its curves below the map: while z is near 0, h′ stays what it was; where z is near 1, it becomes h̃.";
  if (/^LSTM/.test(cell) && has("f") && has("i"))
    return "See its curves below the map: while f is near 1 and i near 0, c′ stays what it was.";
  return "See its curves below the map, and beside it what made it what it is at the step of its largest change.";
}

/** {label, hint, run}: to take from a model what makes it remember. */
function cutMemory(session, layer) {
  const { cell, records } = session.layers[layer],
    { named } = session.values[layer];
  const gate =
    named.find(({ name }) => WITHOUT[`${cell} ${name}`]) || named.find(({ record }) => record.op === "sigmoid");
  if (gate) {
    const effect = WITHOUT[`${cell} ${gate.name}`];
    return {
      label: `Clamp ${gate.name} to 0`,
      hint: `With ${gate.name} = 0 ${effect || "one of the gates is closed at every step"}. ${LOOK}`,
      run: () => {
        session.changes.set({ kind: "clamp", layer, index: gate.index, unit: null, value: 0 });
        showValue(gate);
      },
    };
  }
  const product = records.find(
    ({ op, inputs }) =>
      op === "matmul" &&
      session.layers[layer].carry.some(({ name }) => name === inputs[0]) &&
      typeof inputs[1] === "string",
  );
  const name = product ? product.inputs[1] : session.info.parameters.find(({ shape }) => shape.length > 1).name;
  return {
    label: `Scale ${shortName(name)} to 0`,
    hint:
      `With ${shortName(name)} = 0 ` +
      (product ? "a step no longer sees the state before it. " : "nothing passes this matrix. ") +
      LOOK,
    run: () => session.changes.set({ kind: "scale", name, value: 0 }),
  };
}

/** The five things to try, each one click: {label, hint, run}. */
function suggestions(session) {
  const layer = Math.max(
      session.layers.findIndex(({ carry }) => carry.length),
      0,
    ),
    cut = cutMemory(session, layer);
  /** Show the state of the recurrent layer in an order, and the unit that is first in it. */
  const showFirst = order => {
    showLayer(layer);
    const [unit] = chooseUnits(page.value, session, { order, filter: "", count: 1 }).units;
    change({ unit, order, filter: "", count: 24, tab: "unit" });
  };
  return [
    {
      label: "Find the unit that knows spaces",
      hint:
        "The rows are sorted by how closely a unit follows the spaces of the text, the closest on top. Try " +
        "other characters and other values, such as a gate.",
      run: () => showFirst("is spaces"),
    },
    {
      label: "Watch a unit remember",
      hint: `In the top row is the unit that changes least from step to step. ${remembering(session, layer)}`,
      run: () => {
        showFirst("memory");
        const h = column(session.series(page.value), page.value.size, page.unit);
        const jumps = h.slice(1).map((v, i) => Math.abs(v - h[i]));
        change({ t: 1 + jumps.indexOf(Math.max(...jumps)) });
      },
    },
    {
      ...cut,
      run: () => {
        cut.run();
        modelChanged();
        change({ tab: "change" });
      },
    },
    {
      label: "Walk back from the worst surprise",
      hint:
        "The loss where the model was most surprised, and the first record of its gradient. Go on with ◀: " +
        "every cotangent stands beside its finite difference.",
      run: () => {
        change({ tab: "walk" });
        walkView.chooseWorst();
      },
    },
    {
      label: "How far back does it learn?",
      hint:
        "The norm of the gradient by the state k steps before the loss: where it has died away, nothing can " +
        "be learned from so long ago.",
      run: () => {
        change({ tab: "reach" });
        walkView.choose(session.ids.length - 2);
      },
    },
  ];
}

function showGuide(session) {
  fill(
    $("guide"),
    ...suggestions(session).map(({ label, hint, run }, i) =>
      element(
        "li",
        {},
        element("button", {
          type: "button",
          id: "try-" + i,
          text: `${i + 1}. ${label}`,
          on: {
            click: () => {
              session.changes.reset();
              modelChanged();
              run();
              setText("hint", hint);
              $("hint-bar").hidden = false;
              requestAnimationFrame(() => showPlace(i < 2));
            },
          },
        }),
      ),
    ),
  );
}

/** Scroll to the heatmap, or on a narrow page to the tabs, which on a wide one stand beside everything. */
function showPlace(isMap) {
  if (!isMap && !matchMedia("(max-width: 959px)").matches) return;
  const behavior = matchMedia("(prefers-reduced-motion: reduce)").matches ? "auto" : "smooth";
  $(isMap ? "map-card" : "tabs").scrollIntoView({ behavior });
}

function showFacts(session) {
  const { info, layers, tokens } = session,
    count = info.parameters.reduce((sum, { shape }) => sum + shape.reduce((a, b) => a * b, 1), 0);
  const recurrent = layers.filter(({ carry }) => carry.length);
  const cells = recurrent.map(({ cell, size }) => `${cell} of ${size} units`).join(", then ");
  const name = page.sessions.length > 1 ? session.name + ": " : "";
  setText("facts", `${name}${cells}; ${count.toLocaleString("en")} parameters, ${info.symbols} symbols`);
  setText(
    "text-label",
    tokens.isText
      ? "Type or paste; the model reads one character after another"
      : `Numbers from 0 to ${info.symbols - 1}, with spaces between; the model reads one after another`,
  );
}

function start() {
  const about = JSON.parse($("about").textContent);
  page.sessions = tinygradModels.map((model, i) => new Session(model, about.names[i], about.cells[i]));
  Object.assign(page, { equations: about.equations, fresh: about.fresh });
  page.text = about.text;
  $("text").value = about.text;
  startTabs();
  for (const view of [textView, mapView, curvesView, walkView, writeView]) view.start();
  page.views.push(textView, mapView, curvesView);
  startTheme(draw);
  $("hint-close").addEventListener("click", () => ($("hint-bar").hidden = true));
  setChoices($("model"), [{ choices: page.sessions.map(({ name }, i) => ({ value: i, label: name })) }], 0);
  $("model-choice").hidden = page.sessions.length < 2;
  const show = session => {
    showModel(session);
    showFacts(session);
    showGuide(session);
  };
  $("model").addEventListener("change", () => show(page.sessions[+$("model").value]));
  show(page.sessions[0]);
  page.lossStep = page.session.ids.length - 2;
  page.t = page.session.ids.length - 1;
}

start();
