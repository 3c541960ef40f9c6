import * as fs from 'node:fs';
import { createRequire } from 'node:module';
import * as path from 'node:path';
import { scratchFolder } from './files';

interface NodeGypBuild {
  path(folder: string): string;
}

const { path: find } = createRequire(import.meta.url)('node-gyp-build') as NodeGypBuild;

/** The addon under test: compiled, or prebuilt (test/nodes/run.mjs). */
export const binary = find(path.resolve('.'));

/** For a copy of the package that has one of its own where compiling puts it, or has none. */
export const compiledBinary = { PREBUILDS_ONLY: '', ZEROCOPY_PREBUILD: '' };

/** The folder of a copy of the package without its binary, or with what is given as one. */
export function copyOfPackage(binary?: Buffer): string {
  const folder = scratchFolder();
  for (const name of ['dist', 'package.json'])
    fs.cpSync(name, path.join(folder, name), { recursive: true });
  fs.symlinkSync(path.resolve('node_modules'), path.join(folder, 'node_modules'));
  if (binary) {
    fs.mkdirSync(path.join(folder, 'build/Release'), { recursive: true });
    fs.writeFileSync(path.join(folder, 'build/Release/zerocopy.node'), binary);
  }
  return folder;
}
