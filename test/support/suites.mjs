// Fetches what the published test suites of packages need, which is not needed here: a copy of the
// package as it is installed, with those of its devDependencies that its tests use, from npm.
import { execFileSync } from 'node:child_process';
import { cpSync, readFileSync, writeFileSync } from 'node:fs';
import { resolve } from 'node:path';

/**
 * Prepares the suite of a package, whose tarball has one, in a folder that doesn't exist yet;
 * `needs` are names of its devDependencies.
 */
export function fetchSuite(name, needs, folder) {
  cpSync(resolve('node_modules', name), folder, { recursive: true });
  const file = resolve(folder, 'package.json');
  const { version, type, dependencies, devDependencies } = JSON.parse(readFileSync(file, 'utf8'));
  const wanted = needs.map((need) => {
    if (!devDependencies[need]) throw new Error(`${name} ${version} has no devDependency ${need}`);
    return [need, devDependencies[need]];
  });
  const manifest = { name, version, type, dependencies: Object.fromEntries(wanted) };
  Object.assign(manifest.dependencies, dependencies);
  writeFileSync(file, JSON.stringify(manifest));
  const options = ['--no-audit', '--no-fund', '--ignore-scripts', '--no-package-lock', '--silent'];
  execFileSync('npm', ['install', ...options], { cwd: folder, stdio: ['ignore', 'pipe', 'pipe'] });
}
