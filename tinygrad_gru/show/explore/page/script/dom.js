// Elements, numbers and characters. What comes from a model or a text enters the page as text, never as markup.

const $ = id => document.getElementById(id);

/** A new element: `properties` are attributes, but `text` and `on` (listeners by event); children are nodes or texts. */
function element(tag, properties = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (value === null || value === undefined || value === false) continue;
    if (name === "text") made.textContent = value;
    else if (name === "on") for (const [event, call] of Object.entries(value)) made.addEventListener(event, call);
    else if (name !== "value") made.setAttribute(name, value === true ? "" : value);
  }
  made.append(...children.filter(child => child !== null && child !== undefined));
  if (properties.value !== undefined) made.value = properties.value; // last: a slider must know its ends
  return made;
}

/** Put `children` in the place of what an element holds; if one of them had the focus, the one with its id gets it. */
function fill(parent, ...children) {
  const focused = parent.contains(document.activeElement) ? document.activeElement.id : "";
  parent.replaceChildren(...children.filter(child => child !== null && child !== undefined));
  if (focused && $(focused) && document.activeElement !== $(focused)) $(focused).focus({ preventScroll: true });
}

function setText(id, text) {
  if ($(id).textContent !== text) $(id).textContent = text;
}

/** The choices of a <select>: `groups` is a list of {label, choices: [{value, label}]}; no label, no group. */
function setChoices(select, groups, chosen) {
  fill(
    select,
    ...groups
      .filter(group => group.choices.length)
      .flatMap(({ label, choices }) => {
        const made = choices.map(({ value, label }) => element("option", { value, text: label }));
        return label ? [element("optgroup", { label }, ...made)] : made;
      }),
  );
  select.value = chosen;
}

/** A number with three digits or so. */
function format(value) {
  if (!Number.isFinite(value)) return String(value).replace("-", "−");
  const size = Math.abs(value);
  let text;
  if (size < 1e5 && Number.isInteger(value)) text = String(Math.abs(value) === 0 ? 0 : value);
  else if (size >= 1e5 || size < 9.995e-4) text = value.toExponential(2);
  else text = value.toFixed(size >= 100 ? 1 : size >= 9.9995 ? 2 : size >= 0.0995 ? 3 : size >= 0.00995 ? 4 : 5);
  return text.replace(/-/g, "−").replace("e+", "e");
}

function percent(p) {
  if (p > 0 && p < 0.00005) return "< 0.01 %";
  return (p >= 0.0995 ? (100 * p).toFixed(0) : (100 * p).toFixed(p >= 0.00095 ? 1 : 2)) + " %";
}

/** A character as one sees it: spaces and ends of lines have signs. */
const SIGNS = { " ": "␣", "\n": "↵", "\t": "⇥", "\r": "␍", "\u2028": "␤", "\u2029": "␤", "\u00a0": "⍽" };
function glyph(symbol) {
  if (SIGNS[symbol]) return SIGNS[symbol];
  const point = symbol.codePointAt(0);
  return symbol.length < 3 && (point < 32 || point === 127) ? "U+" + point.toString(16).padStart(4, "0") : symbol;
}
const quoted = symbol => `“${glyph(symbol)}”`;

/** The first `count` of a list, and how many more there are. */
function listed(items, count = 8) {
  const more = items.length - count;
  return items.slice(0, count).join(", ") + (more > 0 ? ` and ${more} more` : "");
}

const clamp = (value, low, high) => Math.min(Math.max(value, low), high);

/** The least and the largest of the numbers that are finite; 0 and 0 if none is. */
function extent(values) {
  let low = Infinity,
    high = -Infinity;
  for (const v of values) {
    if (!Number.isFinite(v)) continue;
    if (v < low) low = v;
    if (v > high) high = v;
  }
  return low <= high ? [low, high] : [0, 0];
}

const norm = values => Math.sqrt(values.reduce((sum, v) => sum + v * v, 0));
const row = (array, size, t) => array.subarray(t * size, t * size + size);
const column = (array, size, unit) => Array.from({ length: array.length / size }, (_, t) => array[t * size + unit]);
const plural = (count, word) => `${count} ${word}${count === 1 ? "" : "s"}`;
