// Many rounds in a few numbers.

/** @typedef {{ median: number, min: number, max: number, values: number[] }} Summary */

/**
 * @param {number[]} values
 * @returns {Summary}
 */
function summarize(values) {
  const sorted = values.toSorted((a, b) => a - b);
  const middle = sorted.length >> 1;
  const median =
    sorted.length % 2 === 1 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2;
  return { median, min: sorted[0], max: sorted[sorted.length - 1], values };
}

/**
 * A summary of each figure that the trials have; of what isn't a number, all the values.
 * @param {Record<string, unknown>[]} trials
 */
export function summarizeTrials(trials) {
  const figures = {};
  const facts = {};
  for (const key of new Set(trials.flatMap(Object.keys))) {
    const values = trials.map((trial) => trial[key]).filter((value) => value !== undefined);
    if (typeof values[0] === 'number') figures[key] = summarize(values);
    else facts[key] = [...new Set(values)].join();
  }
  return { ...facts, figures };
}
