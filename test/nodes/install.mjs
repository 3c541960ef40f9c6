// Releases of Node, from npm.
import * as path from 'node:path';
import { fetchPackage } from '../support/fetch.mjs';

/** Where a release of Node is, and what belongs to it. @param {string} version @param {string} arch */
export const folderOf = (version, arch = process.arch) =>
  path.resolve('build/nodes', arch, version);

/** Installs a release, and returns where its program is. @param {string} version @param {string} arch */
export function install(version, arch = process.arch) {
  const folder = folderOf(version, arch);
  // Forced, since npm takes no package for another processor otherwise.
  return path.join(fetchPackage(folder, `node-linux-${arch}`, version, ['--force']), 'bin/node');
}
