// The addon with sanitizers in it, in a folder of its own, and what a process needs to load it.
import { execFileSync, spawnSync } from 'node:child_process';
import { copyFileSync, mkdirSync, readdirSync, rmSync, symlinkSync } from 'node:fs';
import { basename, dirname, join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = fileURLToPath(new URL('../..', import.meta.url));
const support = join(root, 'test/support');
export const folder = join(root, 'build/asan');

const FLAGS = [
  '-fsanitize=address,undefined',
  '-fno-sanitize-recover=all',
  '-fno-omit-frame-pointer',
  '-g',
].join(' ');

/** As the files binding.gyp say, beside which node-gyp must find the folder that it builds in. */
export function build() {
  mirror(['binding.gyp', 'native', 'node_modules', 'test/native']);
  copyFileSync(join(root, 'package.json'), join(folder, 'package.json'));
  compile(folder);
  mirror(readdirSync(support).flatMap((name) => (name === 'build' ? [] : `test/support/${name}`)));
  compile(join(folder, 'test/support'));
}

/** Links to what is in the tree. */
function mirror(names) {
  for (const name of names) {
    mkdirSync(dirname(join(folder, name)), { recursive: true });
    rmSync(join(folder, name), { force: true });
    symlinkSync(join(root, name), join(folder, name));
  }
}

function compile(where) {
  const gyp = join(root, 'node_modules/.bin/node-gyp');
  const env = { ...process.env, CXXFLAGS: FLAGS, LDFLAGS: FLAGS };
  const options = { cwd: where, env, encoding: 'utf8' };
  const { status, stdout, stderr } = spawnSync(gyp, ['configure', 'build'], options);
  if (status !== 0) throw new Error(`No addon with sanitizers was built:\n${stdout}${stderr}`);
}

/** The compiler's own; the sanitizers' come before everything else, and know what C++ throws. */
function libraries() {
  const pathOf = (name) =>
    execFileSync('g++', [`-print-file-name=${name}`], { encoding: 'utf8' }).trim();
  return ['libasan.so', 'libubsan.so', 'libstdc++.so'].map((name) => {
    const file = pathOf(name);
    if (file === basename(file)) throw new Error(`g++ has no ${name}`);
    return resolve(file);
  });
}

/**
 * The environment of a process whose addon has them, and of its children. Reports go to files that
 * begin with `reports`: what a test makes of a child's stderr and exit code doesn't matter.
 */
export function environment(reports, { leaks = false } = {}) {
  const asan = {
    log_path: reports,
    // A leak may be Node's own: of those the reports alone tell (leaks.mjs).
    exitcode: leaks ? 0 : 99,
    detect_leaks: leaks ? 1 : 0,
    detect_stack_use_after_return: 1,
    // The package may be loaded from two folders.
    detect_odr_violation: 0,
    // Node allocates what it may not get, and looks.
    allocator_may_return_null: 1,
    quarantine_size_mb: 64,
    handle_abort: 1,
  };
  // It writes to stderr for all that, and aborts: of which the other one makes a report. They share
  // the path, which each sets when it starts.
  const ubsan = { log_path: reports, print_stacktrace: 1, halt_on_error: 1, abort_on_error: 1 };
  const text = (options) =>
    Object.entries(options)
      .map(([name, value]) => `${name}=${value}`)
      .join(':');
  return {
    ...process.env,
    LD_PRELOAD: libraries().join(' '),
    ASAN_OPTIONS: text(asan),
    UBSAN_OPTIONS: text(ubsan),
    // node-gyp-build's: where a package's binary is, in children and worker threads too.
    ZEROCOPY_PREBUILD: folder,
    // The one whose system calls fail on demand: test/helpers/seam.ts.
    ZEROCOPY_SEAM: join(folder, 'test/support/build/Release/zerocopy_seam.node'),
    // For test/helpers/sanitizers.ts.
    ZEROCOPY_SANITIZERS: 'address,undefined',
  };
}
