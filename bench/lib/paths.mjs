import { fileURLToPath } from 'node:url';

/** @param {string} relative path of something in bench/ */
export function fromBench(relative) {
  return fileURLToPath(new URL(`../${relative}`, import.meta.url));
}

export const repository = fromBench('..');
export const buildDirectory = fromBench('../build');
