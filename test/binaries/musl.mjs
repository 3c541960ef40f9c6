// What can be shown of the binaries for musl without a Node for it, which npm has not: that the engine
// in them passes its tests, built by the same compiler for the same C library, on x64 and under QEMU on
// arm64; and that musl's own loader finds all that a binary asks of it.
//
// Needs what npm run prebuild:all makes, and Debian's doctest-dev, musl-tools and qemu-user-static.
import { execFileSync, spawnSync } from 'node:child_process';
import * as fs from 'node:fs';
import * as os from 'node:os';
import * as path from 'node:path';
import { neededOfNode } from './binary.mjs';
import { TARGETS } from './targets.mjs';
import { zig } from './zig.mjs';

/** QEMU 7.2 knows neither preadv2 nor openat2; the grid takes it minutes, and no other path than on x64. */
const NOT_EMULATED = [
  '*sizes of pseudo files*',
  'what is cached is opened*',
  'what is served is found*',
  'a path leads to the device*',
  'fault grid*',
];

const folder = path.resolve('build/musl');
fs.mkdirSync(folder, { recursive: true });

load(TARGETS['linux-x64-musl']);
testEngine(TARGETS['linux-x64-musl']);
testEngine(TARGETS['linux-arm64-musl']);

/** The same tests as `make plain`. */
function testEngine({ arch, triple }) {
  const out = path.join(folder, arch);
  const tests = path.join(out, 'plain/tests');
  // Not all of /usr/include, which is another C library's.
  const include = path.join(folder, 'include');
  fs.rmSync(include, { recursive: true, force: true });
  fs.mkdirSync(include, { recursive: true });
  fs.symlinkSync('/usr/include/doctest', path.join(include, 'doctest'));
  // Of clang only, and a function of glibc's, which names an error in a failure's message.
  const differences = '-Wno-c++20-extensions -Dstrerrorname_np=strerror';
  const compiler = `CXX=${zig()} c++ -target ${triple} -isystem ${include} ${differences}`;
  const jobs = `-j${os.availableParallelism()}`;
  const make = ['-s', jobs, '-C', 'test/native', `OUT=${out}`, compiler, tests];
  execFileSync('make', make, { stdio: 'inherit' });
  if (arch === process.arch) {
    execFileSync(tests, { stdio: 'inherit' });
  } else {
    console.log(`Under QEMU without: ${NOT_EMULATED.join(', ')}`);
    const args = [tests, `--test-case-exclude=${NOT_EMULATED.join()}`];
    execFileSync('qemu-aarch64-static', args, { stdio: 'inherit' });
  }
}

/** By a program that stands in for Node: it has the functions of Node-API by name only. */
function load({ file }) {
  const stubs = neededOfNode(file).map((name) => `void ${name}(void) {}\n`);
  const source = path.join(folder, 'stubs.c');
  fs.writeFileSync(source, stubs.join(''));
  const program = path.join(folder, 'load');
  // Not Zig, which links musl into a program.
  const args = ['-rdynamic', '-o', program, source, 'test/binaries/load.c'];
  execFileSync('musl-gcc', args, { stdio: 'inherit' });
  const { status } = spawnSync(program, [path.resolve(file)], { stdio: 'inherit' });
  if (status !== 0) throw new Error(`${file} can't be loaded by musl`);
  console.log(`${file}: loaded by musl, with ${stubs.length} functions of Node-API`);
}
