// What the tests need beside the library, and what vitest.config.mts has as its global setup.
import { execFileSync } from 'node:child_process';
import { mkdirSync } from 'node:fs';
import * as path from 'node:path';
import { buildClient } from '../hostile/harness.mjs';

/** Builds the support addon and the client in C, and makes the folder for scratch files. */
export function setup() {
  const gyp = path.resolve('node_modules/.bin/node-gyp');
  const args = ['configure', 'build', '--silent', '-C', import.meta.dirname];
  execFileSync(gyp, args, { stdio: 'inherit' });
  buildClient();
  mkdirSync('build/test-scratch', { recursive: true }); // of helpers/files.ts
}
