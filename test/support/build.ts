import { execFileSync } from 'node:child_process';
import { mkdirSync } from 'node:fs';
import * as path from 'node:path';
import { scratchRoot } from '../helpers/files';

/** vitest's global setup: builds the support addon, and makes the folder for scratch files. */
export function setup(): void {
  const gyp = path.resolve('node_modules/.bin/node-gyp');
  execFileSync(gyp, ['configure', 'build', '--silent', '-C', __dirname], { stdio: 'inherit' });
  mkdirSync(scratchRoot, { recursive: true });
}
