// Packages from npm that not everybody needs who works here, or that are for other machines.
import { execFileSync } from 'node:child_process';
import * as fs from 'node:fs';
import * as path from 'node:path';

const OPTIONS = ['--no-save', '--no-package-lock', '--ignore-scripts', '--no-audit', '--no-fund'];

/** Installs `name@version` in a folder of its own, and returns where it is. @param {string[]} options */
export function fetchPackage(folder, name, version, options = []) {
  fs.mkdirSync(folder, { recursive: true });
  fs.writeFileSync(path.join(folder, 'package.json'), '{ "private": true }\n');
  const args = ['install', ...OPTIONS, ...options, '--silent', `${name}@${version}`];
  execFileSync('npm', args, { cwd: folder, stdio: ['ignore', 'ignore', 'inherit'] });
  return path.join(folder, 'node_modules', name);
}
