// Runs a transfer of each kind with the prebuilt binary for this machine; fails unless all that is sent
// arrives, and each goes the way that it should.
//   try.mjs [--no-preadv2]      under QEMU's emulation of a process, which doesn't know that call
import { mkdirSync, readFileSync, rmSync } from 'node:fs';
import { resolve } from 'node:path';

process.env.PREBUILDS_ONLY = '1'; // node-gyp-build's
const { capabilities } = await import('zerocopy');
const { kinds } = await import('../programs/kinds.mjs');

const table = new URL('../programs/usual-backends.json', import.meta.url);
const usual = JSON.parse(readFileSync(table, 'utf8'));

const EXPECTED = {
  'tiny file to socket': process.argv.includes('--no-preadv2') ? 'sendfile' : 'read',
  ...usual,
};

const folder = resolve('build/try');
mkdirSync(folder, { recursive: true });
let wrong = 0;
for (const [name, run] of Object.entries(kinds)) {
  const { backend, right, fallback, error } = await run(folder, {});
  const isAsExpected = right && backend === EXPECTED[name];
  if (!isAsExpected) wrong++;
  const rest = isAsExpected ? '' : ` ${JSON.stringify({ right, fallback, error })}`;
  console.log(`${isAsExpected ? 'ok  ' : 'FAIL'} ${name}: ${backend}${rest}`);
}
rmSync(folder, { recursive: true });
const { native, reason, kernel } = capabilities();
console.log(
  `Node ${process.version} on ${process.arch}, Linux ${kernel}: ${native ? 'native' : reason}`,
);
process.exitCode = wrong === 0 ? 0 : 1;
