// What to try: five things that each are one click, and a sentence on what there is to see, which stays in sight.

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
      (product ? "the product of the state and this matrix is 0. " : "nothing passes this matrix. ") +
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

function startGuide() {
  $("hint-close").addEventListener("click", () => {
    $("hint-bar").hidden = true;
  });
}
