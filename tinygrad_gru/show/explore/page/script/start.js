// The beginning: the models, the tabs and the text.

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
  startGuide();
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
