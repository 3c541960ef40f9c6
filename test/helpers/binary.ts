import { createRequire } from 'node:module';
import * as path from 'node:path';

interface NodeGypBuild {
  path(folder: string): string;
}

const { path: find } = createRequire(import.meta.url)('node-gyp-build') as NodeGypBuild;

/** The addon under test: compiled, or prebuilt (test/nodes/run.mjs). */
export const binary = find(path.resolve('.'));

/** For a copy of the package that has one of its own where compiling puts it, or has none. */
export const compiledBinary = { PREBUILDS_ONLY: '', ZEROCOPY_PREBUILD: '' };
