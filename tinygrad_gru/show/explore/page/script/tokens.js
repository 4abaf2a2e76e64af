// Text to ids and back, for a model with a vocabulary of characters and for one whose symbols are numbers.

const LONGEST = 1000; // symbols of a text that are read

class Tokens {
  /** info: a model's vocabulary, or null (a text is then a list of ids), and the symbol that stands for unlisted ones */
  constructor({ vocabulary, symbols, other }) {
    this.symbols = vocabulary || Array.from({ length: symbols }, (_, i) => String(i));
    this.isText = vocabulary !== null;
    this.ids = new Map(this.symbols.map((symbol, id) => [symbol, id]));
    this.other = this.ids.has(other) ? this.ids.get(other) : null;
  }

  /** {ids, symbols, notes}: what is read of a text, and in words what is not read as it stands. */
  encode(text) {
    const all = this.isText ? Array.from(text) : text.split(/[\s,;]+/).filter(Boolean);
    const given = all.slice(0, LONGEST);
    const ids = [],
      unknown = new Set();
    for (const symbol of given) {
      if (this.ids.has(symbol)) ids.push(this.ids.get(symbol));
      else {
        unknown.add(symbol);
        if (this.other !== null) ids.push(this.other);
      }
    }
    const notes = [];
    if (unknown.size) {
      const names = listed([...unknown].map(quoted));
      const fate = this.other === null ? "left out" : `read as ${quoted(this.symbols[this.other])}`;
      notes.push(`Not among the ${this.symbols.length} symbols of the model, so ${fate}: ${names}.`);
    }
    if (all.length > LONGEST) notes.push(`Only the first ${LONGEST} of ${all.length} symbols are read.`);
    if (ids.length < 2) {
      const what = this.isText ? "characters that the model knows" : `numbers from 0 to ${this.symbols.length - 1}`;
      notes.push(`A text needs at least two ${what}: nothing has changed below.`);
    }
    return { ids, symbols: ids.map(id => this.symbols[id]), notes };
  }

  decode(ids) {
    return ids.map(id => this.symbols[id]).join(this.isText ? "" : " ");
  }
}
