// A page opened by a double click may not read the others, from which a search takes its excerpts: it lists titles then.
DOCUMENTATION_OPTIONS.SHOW_SEARCH_SUMMARY = location.protocol !== "file:";
