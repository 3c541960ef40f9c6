import { execFileSync } from 'node:child_process';
import { mkdirSync } from 'node:fs';
import * as path from 'node:path';
import { scratchRoot } from '../helpers/files';
import { buildClient } from '../hostile/harness.mjs';

/** vitest's global setup: builds the support addon and the client in C, and makes the folder for scratch files. */
export function setup(): void {
  const gyp = path.resolve('node_modules/.bin/node-gyp');
  execFileSync(gyp, ['configure', 'build', '--silent', '-C', __dirname], { stdio: 'inherit' });
  buildClient();
  mkdirSync(scratchRoot, { recursive: true });
}
