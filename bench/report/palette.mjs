// Colours, each for light and dark. What is drawn has the light ones; a style sheet, which goes by
// those, puts the dark ones in their place.

const COLOURS = {
  page: ['#ffffff', '#0d1117'],
  card: ['#f6f8fa', '#151b23'],
  ink: ['#1f2328', '#e6edf3'],
  muted: ['#59636e', '#9ea7b1'],
  rule: ['#d1d9e0', '#3d444d'],
  zerocopy: ['#0b7a75', '#2dd4bf'],
  node1: ['#8b949e', '#8a939d'],
  node2: ['#6a737d', '#b3bcc6'],
  node3: ['#a8b1bb', '#656d76'],
  peer1: ['#b7791f', '#d9a441'],
  peer2: ['#8f5a99', '#c491cf'],
  peer3: ['#46699e', '#8fb0e0'],
  met: ['#1a7f37', '#3fb950'],
  missed: ['#c0212c', '#ff7b72'],
};

/** The light ones, by name. @type {Record<keyof typeof COLOURS, string>} */
export const colours = Object.fromEntries(
  Object.entries(COLOURS).map(([name, [light]]) => [name, light]),
);

/**
 * A colour for each way: one for all of zerocopy's, which stand out, and greys for Node's own.
 * @param {string[]} ways
 * @param {(way: string) => import('./labels.mjs').Kind} kindOf
 * @returns {Record<string, string>}
 */
export function coloursOf(ways, kindOf) {
  const seen = { zerocopy: 0, node: 0, peer: 0 };
  return Object.fromEntries(
    ways.map((way) => {
      const kind = kindOf(way);
      const index = seen[kind]++ % 3;
      return [way, colours[kind === 'zerocopy' ? kind : `${kind}${index + 1}`]];
    }),
  );
}

/** What makes drawings dark where that is preferred. */
export function darkDrawings() {
  const rules = Object.values(COLOURS).map(
    ([light, dark]) => `svg [fill="${light}"]{fill:${dark}}svg [stroke="${light}"]{stroke:${dark}}`,
  );
  return `@media (prefers-color-scheme:dark){${rules.join('')}}`;
}

/** The same colours, as custom properties of a page. */
export function properties() {
  const of = (index) =>
    Object.entries(COLOURS)
      .map(([name, pair]) => `--${name}:${pair[index]}`)
      .join(';');
  return `:root{color-scheme:light dark;${of(0)}}@media (prefers-color-scheme:dark){:root{${of(1)}}}`;
}
