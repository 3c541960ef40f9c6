/**
 * Ratios of one way's median to another's, or how much more it is, against targets. A comparison with
 * a way that was not run is left out.
 * @param {Record<string, { figures: Record<string, import('./summary.mjs').Summary> }>} ways
 * @param {{ what: string, figure: string, way?: string, to: string, atMost?: number,
 *   atLeast?: number, difference?: boolean }[]} targets
 */
export function checkTargets(ways, targets) {
  return targets.flatMap(({ what, figure, way = 'transfer', to, atMost, atLeast, difference }) => {
    const value = ways[way]?.figures[figure]?.median;
    const reference = ways[to]?.figures[figure]?.median;
    if (value === undefined || reference === undefined) return [];
    const ratio = difference ? value - reference : value / reference;
    const met = atMost === undefined ? ratio >= atLeast : ratio <= atMost;
    return [{ what, ratio, atMost, atLeast, met }];
  });
}

/** Of Student's t, one-sided 95 %, by degrees of freedom from 1 on. */
const STUDENT = [6.314, 2.92, 2.353, 2.132, 2.015, 1.943, 1.895, 1.86, 1.833, 1.812];

/**
 * What the ratio of two ways is at least, with 95 % confidence: of rounds in which both ran, by the
 * logarithms of their ratios.
 * @param {import('./summary.mjs').Summary} figure
 * @param {import('./summary.mjs').Summary} reference
 */
export function lowerBoundOfRatio({ values }, { values: references }) {
  const logs = values.map((value, index) => Math.log(value / references[index]));
  const mean = logs.reduce((sum, each) => sum + each, 0) / logs.length;
  const squares = logs.reduce((sum, each) => sum + (each - mean) ** 2, 0);
  const error = Math.sqrt(squares / (logs.length - 1) / logs.length);
  const factor = STUDENT[Math.min(logs.length - 1, STUDENT.length) - 1];
  return Math.exp(mean - factor * error);
}
