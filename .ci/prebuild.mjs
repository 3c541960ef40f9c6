// npm run prebuild:all: the binaries that the package brings, into prebuilds/.
//   prebuild.mjs [TARGET...]      all of them, or some: linux-arm64-musl
import { spawnSync } from 'node:child_process';
import * as fs from 'node:fs';
import { createRequire } from 'node:module';
import * as path from 'node:path';
import { checkBinary } from '../test/binaries/binary.mjs';
import { TARGETS } from '../test/binaries/targets.mjs';
import { zig } from '../test/binaries/zig.mjs';

const prebuildify = createRequire(import.meta.url).resolve('prebuildify/bin.js');
const root = path.resolve(import.meta.dirname, '..');
process.chdir(root);

const names = process.argv.length > 2 ? process.argv.slice(2) : Object.keys(TARGETS);
const unknown = names.filter((name) => !Object.hasOwn(TARGETS, name));
if (unknown.length > 0) throw new Error(`${unknown} is none of ${Object.keys(TARGETS).join(', ')}`);
for (const name of names) {
  build(TARGETS[name]);
  console.log(checkBinary(TARGETS[name]));
}

/** In a folder of its own: node-gyp empties the folder `build` first. */
function build({ arch, libc, triple }) {
  const folder = path.join(root, 'build/prebuild');
  fs.rmSync(folder, { recursive: true, force: true });
  fs.mkdirSync(folder, { recursive: true });
  for (const name of ['package.json', 'binding.gyp', 'native', 'node_modules']) {
    fs.symlinkSync(path.join(root, name), path.join(folder, name));
  }
  const options = ['--napi', `--tag-libc=${libc}`, '--arch', arch, '--platform', 'linux'];
  const { status } = spawnSync(
    process.execPath,
    [prebuildify, ...options, '--cwd', folder, '--out', root],
    {
      stdio: 'inherit',
      env: {
        ...process.env,
        CC: `${zig()} cc -target ${triple}`,
        CXX: `${zig()} c++ -target ${triple}`,
        // Stripped by the linker: strip(1) knows the machine's own architecture only.
        LDFLAGS: `-s -O2 -Wl,--version-script=${path.join(root, '.ci/exports.map')}`,
      },
    },
  );
  if (status !== 0) throw new Error(`No binary for ${triple}`);
}
