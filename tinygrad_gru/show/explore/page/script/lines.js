// Lines of charts, as SVG: each in a colour and a pattern of its own, which the key beside its name shows.

const PATTERNS = ["none", "9 3", "3 3", "9 3 3 3", "14 4", "6 2 2 2"]; // as many as the style has colours --line-1 …

function stroke(i) {
  const at = i % PATTERNS.length;
  return { fill: "none", stroke: `var(--line-${at + 1})`, "stroke-width": 2, "stroke-dasharray": PATTERNS[at] };
}

function svg(tag, properties, text) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(properties)) made.setAttribute(name, value);
  if (text !== undefined) made.textContent = text;
  return made;
}

/** A short piece of curve i. */
function swatch(i) {
  const made = svg("svg", { class: "key", viewBox: "0 0 36 8", "aria-hidden": "true" });
  made.append(svg("line", { ...stroke(i), x1: 0, x2: 36, y1: 4, y2: 4 }));
  return made;
}

/** Curve i through the places x(k), y(values[k]); it is broken where a number is not finite, as log 0 is. */
function curve(i, values, x, y, width = 2) {
  let path = "",
    isOn = false;
  values.forEach((value, k) => {
    const high = y(value),
      isSeen = Number.isFinite(high);
    if (isSeen) path += `${isOn ? "L" : "M"}${x(k).toFixed(1)} ${high.toFixed(1)}`;
    isOn = isSeen;
  });
  return svg("path", { ...stroke(i), "stroke-width": width, d: path });
}
