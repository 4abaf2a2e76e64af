({
  // Texts with less contrast to what is behind them than WCAG's AA asks for.
  faint: () => {
    const parse = text => (text.match(/[\d.]+/g) || []).map(Number);
    const over = ([r, g, b, a = 1], under) => [r, g, b].map((c, i) => c * a + under[i] * (1 - a));
    const behind = element => {
      if (!element) return [255, 255, 255];
      const colour = parse(getComputedStyle(element).backgroundColor);
      if (colour[3] === 0) return behind(element.parentElement);
      return colour[3] === undefined ? colour : over(colour, behind(element.parentElement));
    };
    const linear = c => (c / 255 <= 0.04045 ? c / 255 / 12.92 : ((c / 255 + 0.055) / 1.055) ** 2.4);
    const light = ([r, g, b]) => 0.2126 * linear(r) + 0.7152 * linear(g) + 0.0722 * linear(b);
    const found = [];
    for (const element of document.querySelectorAll("body *")) {
      const text = Array.from(element.childNodes).filter(n => n.nodeType === 3).map(n => n.textContent.trim()).join("");
      if (!text || element.disabled || !element.checkVisibility() || element.closest(".skip, script, option")) continue;
      const back = behind(element), [a, b] = [light(over(parse(getComputedStyle(element).color), back)), light(back)];
      const contrast = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
      if (contrast < 4.5) found.push(`${element.tagName} ${text.slice(0, 20)}: ${contrast.toFixed(2)}`);
    }
    return found;
  },

  // Controls and pictures without a name for those who hear the page.
  nameless: () => {
    const all = document.querySelectorAll("button, select, input, textarea, canvas, svg, [role=region]");
    return Array.from(all).filter(element => {
      if (!element.checkVisibility() || element.getAttribute("aria-hidden") === "true") return false;
      const labels = Array.from(element.labels || [], label => label.textContent.trim()).join("");
      const own = element.tagName === "BUTTON" ? element.textContent.trim() : "";
      return !(labels || own || element.getAttribute("aria-label"));
    }).map(element => element.outerHTML.slice(0, 80));
  },
})
