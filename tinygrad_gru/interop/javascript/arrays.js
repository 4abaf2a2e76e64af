/** The typed array whose bytes are written in base64. */
function decoded(text, type) {
  return new type(Uint8Array.from(atob(text), (c) => c.charCodeAt(0)).buffer);
}
