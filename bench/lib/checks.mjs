/**
 * Ratios of one way's median to another's, against targets. A comparison with a way that was not
 * run is left out.
 * @param {Record<string, { figures: Record<string, import('./summary.mjs').Summary> }>} ways
 * @param {{ what: string, figure: string, way?: string, to: string, atMost?: number,
 *   atLeast?: number }[]} targets
 */
export function checkTargets(ways, targets) {
  return targets.flatMap(({ what, figure, way = 'transfer', to, atMost, atLeast }) => {
    const value = ways[way]?.figures[figure]?.median;
    const reference = ways[to]?.figures[figure]?.median;
    if (value === undefined || reference === undefined) return [];
    const ratio = value / reference;
    const met = atMost === undefined ? ratio >= atLeast : ratio <= atMost;
    return [{ what, ratio, atMost, atLeast, met }];
  });
}
