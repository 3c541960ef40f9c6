// In each of vitest's processes: puts down which Node ran the tests, and which addon they had.
import * as fs from 'node:fs';
import { afterAll } from 'vitest';

const list = process.env.ZEROCOPY_WITNESS ?? '';

afterAll(() => {
  const mapped = fs
    .readFileSync('/proc/self/maps', 'utf8')
    .matchAll(/\S+\/zerocopy(?!_seam)\S*\.node$/gm);
  const addons = [...new Set([...mapped].map(([file]) => file))];
  fs.appendFileSync(list, `${JSON.stringify({ node: process.version, addons })}\n`);
});
