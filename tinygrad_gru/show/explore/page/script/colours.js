// Colour scales of the heatmap and of the strip of cotangents, for light and dark pages, and the switch between these.

const SCALES = {
  light: {
    signed: ["#1b4f9c", "#8fb6e3", "#fafafa", "#f0b184", "#a84a08"],
    positive: ["#fbfaff", "#c9c3f0", "#8478d3", "#4a3cb0", "#241a66"],
  },
  dark: {
    signed: ["#8cc4ff", "#3b6ea8", "#181a20", "#a8642a", "#ffb56b"],
    positive: ["#16171d", "#38315f", "#6a5bb8", "#a99fff", "#f0edff"],
  },
};

const channels = hex => [1, 3, 5].map(at => parseInt(hex.slice(at, at + 2), 16));

/** 256 colours between the stops of a scale, as numbers for a Uint32Array over the pixels of a canvas. */
function colourTable(stops) {
  const table = new Uint32Array(256),
    parts = stops.map(channels);
  for (let i = 0; i < 256; i++) {
    const place = (i / 255) * (parts.length - 1),
      k = Math.min(Math.floor(place), parts.length - 2),
      f = place - k;
    const [r, g, b] = parts[k].map((low, c) => Math.round(low + f * (parts[k + 1][c] - low)));
    table[i] = (255 << 24) | (b << 16) | (g << 8) | r;
  }
  return table;
}

/** A property of the page's style, such as a colour, as it is now. */
const colourOf = name => getComputedStyle(document.documentElement).getPropertyValue(name);

const WIDEST = 16384; // pixels of a canvas; a wider one stays empty on a phone

/** The pen of an empty canvas of a size in CSS pixels, on which a pixel of the screen is a pixel if there is room. */
function penOf(canvas, width, height) {
  const ratio = Math.min(devicePixelRatio || 1, WIDEST / width),
    pen = canvas.getContext("2d");
  canvas.style.width = width + "px";
  canvas.style.height = height + "px";
  canvas.width = Math.round(width * ratio);
  canvas.height = Math.round(height * ratio);
  pen.scale(ratio, ratio);
  return pen;
}

const isDark = () => {
  const chosen = document.documentElement.dataset.theme;
  return chosen ? chosen === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
};

/** The scale for values from `low` to `high`: 0 to 1 if they lie there, as gates do, else as far down as up. */
function scaleFor(low, high) {
  const colours = SCALES[isDark() ? "dark" : "light"];
  if (low >= 0) return { low: 0, high: high <= 1 ? 1 : high, table: colourTable(colours.positive) };
  const most = Math.max(-low, high);
  return { low: -most, high: most, table: colourTable(colours.signed) };
}

const NOT_FINITE = 0xffff00ff; // magenta, which is in no scale

const colourAt = ({ low, high, table }, value) =>
  Number.isFinite(value) ? table[clamp(Math.round((255 * (value - low)) / (high - low || 1)), 0, 255)] : NOT_FINITE;

const THEMES = { auto: "as the system has them", light: "light", dark: "dark" };

/** Let the button switch between the themes; `redraw` draws what is not CSS again. */
function startTheme(redraw) {
  const button = $("theme"),
    root = document.documentElement,
    names = Object.keys(THEMES);
  let now = "auto";
  button.addEventListener("click", () => {
    now = names[(names.indexOf(now) + 1) % names.length];
    if (now === "auto") delete root.dataset.theme;
    else root.dataset.theme = now;
    button.textContent = "◐ " + now;
    button.setAttribute("aria-label", "Colours: " + THEMES[now]);
    redraw();
  });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw);
}
