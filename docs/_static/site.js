// A page opened by a double click may not read the others, from which a search takes its excerpts: it lists titles then.
DOCUMENTATION_OPTIONS.SHOW_SEARCH_SUMMARY = location.protocol !== "file:";

// A drawn tape has the same as a text below it, for those who cannot see the picture: folded, it is in nobody's way.
addEventListener("DOMContentLoaded", () => {
  for (const text of document.querySelectorAll(".cell_output figcaption > pre")) {
    const fold = document.createElement("details");
    fold.append(Object.assign(document.createElement("summary"), { textContent: "The same as text" }));
    text.replaceWith(fold);
    fold.append(text);
  }
});
