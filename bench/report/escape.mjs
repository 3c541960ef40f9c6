const ENTITIES = { '&': '&amp;', '<': '&lt;', '>': '&gt;', '"': '&quot;', "'": '&#39;' };

/** For HTML and XML, in text and in attributes. @param {unknown} text */
export function escapeMarkup(text) {
  // biome-ignore lint/suspicious/noControlCharactersInRegex: XML has no way to tell these
  const plain = String(text).replace(/[\0-\x08\x0b\x0c\x0e-\x1f]/g, '\ufffd');
  return plain.replace(/[&<>"']/g, (character) => ENTITIES[character]);
}
