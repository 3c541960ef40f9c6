// What has become of the server's transfers.

/** @type {{ accepted: number, begun: number, ended: number, how: Record<string, number> }} */
export const counts = { accepted: 0, begun: 0, ended: 0, how: {} };

export function count(what) {
  counts.how[what] = (counts.how[what] ?? 0) + 1;
}

/**
 * Counts how a transfer ends: by which backend, or with which code.
 * @template {{ backend: string }} T
 * @param {string} way
 * @param {Promise<T>} transfer
 * @returns {Promise<T>}
 */
export async function ended(way, transfer) {
  counts.begun += 1;
  try {
    const result = await transfer;
    count(`${way} ${result.backend}`);
    return result;
  } catch (error) {
    count(`${way} ${error.code}`);
    throw error;
  } finally {
    counts.ended += 1;
  }
}
