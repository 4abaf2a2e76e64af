// The state of the page, and its views: a change of the state draws once, in the next frame, what is in sight.

const page = {
  sessions: [],
  equations: {}, // the rules of the ops, as text
  fresh: [], // curves of models before training
  session: null,
  views: [], // {update(page)}: the views that are always in sight
  panels: {}, // the views of the tabs, of which only the one in sight is updated
  text: "",
  t: 0, // the step
  layer: 0,
  value: null, // what the heatmap shows
  unit: -1, // the chosen one; the first of the order if it is not among those shown
  order: "variance",
  filter: "",
  given: "aeiou",
  count: 24, // rows of the heatmap; 0: all
  tab: "unit",
  lossStep: 0, // where the walk backward begins
  walk: 0, // how many records it has gone
};

/** Change the state: give what is new. */
function change(news) {
  Object.assign(page, news);
  draw();
}

let isDrawing = false;
function draw() {
  if (isDrawing) return;
  isDrawing = true;
  requestAnimationFrame(drawNow);
}

function drawNow() {
  isDrawing = false;
  for (const view of page.views) view.update(page);
  page.panels[page.tab].update(page);
}

/** Read a text with the model that is chosen. */
function readText(text) {
  const { session } = page;
  const notes = session.read(text);
  setText("text-note", notes.join(" "));
  const last = session.ids.length - 2;
  change({ text, t: Math.min(page.t, last + 1), lossStep: Math.min(page.lossStep, last), walk: 0 });
}

/** Show another model: its first layer and named value. */
function showModel(session) {
  const layer = session.layers.findIndex(({ carry }) => carry.length);
  page.session = session;
  showLayer(Math.max(layer, 0));
  readText(page.text);
}

function showLayer(layer) {
  const { named, all } = page.session.values[layer];
  showValue(named.find(value => value.isState) || named[0] || all[all.length - 1]);
  page.walk = 0;
}

function showValue(value) {
  change({ value, layer: value.layer, unit: Math.min(page.unit, value.size - 1) });
}

/** To be called after a change to the model. */
function modelChanged() {
  page.session.changed();
  draw();
}

const symbolAt = t => quoted(page.session.symbols[t]);
const stepName = t => `step ${t}, ${symbolAt(t)}`;
