// npm run test:mutations [-- NAME…] [--write]
//
// Applies the seeded bugs of this folder to a copy of the tree, one at a time, and runs the tests
// until one fails; a bug that none of them finds fails the run. A patch says in its head what it
// breaks, and which tests are to be tried first; where those pass, all the others follow. What fails
// must fail once more, and without any bug the tests that are tried first must pass: so it was the
// bug. `--write` leaves the result in docs/mutations.md.
import { execFileSync, spawnSync } from 'node:child_process';
import * as fs from 'node:fs';
import * as os from 'node:os';
import * as path from 'node:path';
import { parseArgs } from 'node:util';

const root = path.resolve(import.meta.dirname ?? path.dirname(process.argv[1]), '../..');
const patches = path.join(root, 'test/mutations');
const tree = path.join(root, 'build/mutations/tree');
const report = path.join(root, 'docs/mutations.md');

/** A suite that hangs fails in CI too, by its own limits; this one is ours. */
const LONGEST_RUN_MS = 15 * 60_000;
// Or git would take the copy for a part of the repository that it lies in.
const env = {
  ...process.env,
  GIT_CEILING_DIRECTORIES: path.dirname(tree),
  FORCE_COLOR: '0',
  JOBS: 'max', // of node-gyp
};

/** @param {string} command @param {string[]} args */
function run(command, args) {
  const result = spawnSync(command, args, {
    cwd: tree,
    env,
    encoding: 'utf8',
    timeout: LONGEST_RUN_MS,
    killSignal: 'SIGKILL',
    maxBuffer: 1 << 28,
  });
  return { ...result, output: `${result.stdout}${result.stderr}` };
}

/** @param {string} what @param {string} command @param {string[]} args */
function mustRun(what, command, args) {
  const { status, output } = run(command, args);
  if (status !== 0)
    throw new Error(`${what}: ${command} ${args.join(' ')}\n${output.slice(-4000)}`);
}

function copyTree() {
  fs.rmSync(tree, { recursive: true, force: true });
  const listing = ['ls-files', '-z', '--cached', '--others', '--exclude-standard'];
  const files = execFileSync('git', listing, { cwd: root, encoding: 'utf8' }).split('\0');
  for (const file of files.filter((name) => name && fs.existsSync(path.join(root, name)))) {
    fs.cpSync(path.join(root, file), path.join(tree, file));
  }
  fs.symlinkSync(path.join(root, 'node_modules'), path.join(tree, 'node_modules'));
}

/** @param {string} file */
function readPatch(file) {
  const [head = ''] = fs.readFileSync(path.join(patches, file), 'utf8').split(/^diff --git /m);
  const [, title] = /^(.+)$/m.exec(head) ?? [];
  const [, first] = /^First: (.+)$/m.exec(head) ?? [];
  if (!title || !first)
    throw new Error(`${file}: no title, or no line 'First: native | test/….test.ts'`);
  return { name: path.basename(file, '.patch'), file: path.join(patches, file), title, first };
}

/** What fails first, and again when it is tried once more; undefined when all tests have passed. */
function vitest(files) {
  const results = path.join(tree, 'build/vitest.json');
  fs.rmSync(results, { force: true });
  const options = ['--bail=1', '--retry=1', '--reporter=json', `--outputFile=${results}`];
  const { status, error, output } = run('npx', ['vitest', 'run', ...options, ...files]);
  if (status === 0) return undefined;
  if (error) return 'no end within a quarter of an hour';
  const { testResults } = fs.existsSync(results)
    ? JSON.parse(fs.readFileSync(results, 'utf8'))
    : { testResults: [] };
  for (const { name, assertionResults } of testResults) {
    const failed = assertionResults.find((assertion) => assertion.status === 'failed');
    if (failed) return `${path.relative(tree, name)}: ${failed.fullName.trim()}`;
  }
  const said = /(Unhandled .*|.*exited unexpectedly.*|Error: .*)/.exec(output)?.[1] ?? 'a crash';
  return `${files.join(' ') || 'the suite'}: ${said}`;
}

/** The same of the engine's tests. */
function native(tries = 2) {
  const what = ['-C', 'test/native', 'plain', 'ARGS=--abort-after=1'];
  const { status, output } = run('make', [`-j${os.availableParallelism()}`, ...what]);
  if (status === 0) return undefined;
  if (/^\S+: (fatal )?error:/m.test(output) && !output.includes('[doctest]')) {
    throw new Error(`It doesn't compile:\n${output.slice(-4000)}`);
  }
  const [, test] = /TEST CASE: +(.+)/.exec(output) ?? [];
  return tries > 1 ? native(tries - 1) : `test/native: ${test ?? 'a crash, or no end'}`;
}

const isNative = (patch) => fs.readFileSync(patch.file, 'utf8').includes('+++ b/native/');

/** @param {ReturnType<typeof readPatch>} patch */
function findBug(patch) {
  const isFirstNative = patch.first === 'native';
  const found = isFirstNative ? native() : vitest(patch.first.split(' '));
  if (found) return found;
  console.log(`  not found by ${patch.first}: all the tests`);
  return (isNative(patch) && !isFirstNative ? native() : undefined) ?? vitest([]);
}

function control(all) {
  mustRun('The tree without any bug', 'npm', ['run', 'compile']);
  const firsts = [...new Set(all.flatMap(({ first }) => first.split(' ')))];
  const files = firsts.filter((first) => first !== 'native');
  const failure =
    (firsts.includes('native') ? native() : undefined) ??
    (files.length > 0 ? vitest(files) : undefined);
  if (failure) throw new Error(`Without any bug this fails: ${failure}`);
}

/** @param {ReturnType<typeof readPatch>} patch */
function tryPatch(patch) {
  const began = Date.now();
  mustRun(`${patch.name} doesn't apply`, 'git', ['apply', patch.file]);
  let found;
  try {
    mustRun(`${patch.name} doesn't compile`, 'npm', ['run', 'compile']);
    found = findBug(patch);
  } finally {
    mustRun(patch.name, 'git', ['apply', '--reverse', patch.file]);
  }
  const seconds = Math.round((Date.now() - began) / 1000);
  console.log(
    `${found ? 'found' : 'NOT FOUND'}  ${patch.name} (${seconds} s)\n  ${found ?? patch.title}`,
  );
  return { ...patch, found };
}

function describeTree() {
  const git = (...args) => execFileSync('git', args, { cwd: root, encoding: 'utf8' }).trim();
  const changed = git('status', '--porcelain', '--', 'lib', 'native', 'test')
    ? ' with changes'
    : '';
  return `${git('rev-parse', '--short', 'HEAD')}${changed}`;
}

function page(commit, results) {
  const machine = `Linux ${os.release()}, Node.js ${process.versions.node}`;
  const count = results.filter(({ found }) => found).length;
  const cell = (text) => text.replaceAll('|', '\\|').replaceAll('<', '&lt;');
  const rows = results.map(
    ({ name, title, found }) => `| ${name} | ${cell(title)} | ${cell(found ?? '**nothing**')} |`,
  );
  return [
    '# Seeded bugs',
    '',
    'What the tests find of bugs that were put into the library on purpose, one at a time',
    '(`test/mutations`). Written by `npm run test:mutations -- --write`',
    `on ${new Date().toISOString().slice(0, 10)}, at ${commit}, ${machine}: ${count} of ${results.length} were found.`,
    '',
    '| bug | what it breaks | the first test that fails |',
    '|---|---|---|',
    ...rows,
    '',
  ].join('\n');
}

const { values, positionals } = parseArgs({
  options: { write: { type: 'boolean', default: false } },
  allowPositionals: true,
});
const files = fs.readdirSync(patches).filter((name) => name.endsWith('.patch'));
const all = files.sort().map(readPatch);
const unknown = positionals.find((wanted) => !all.some(({ name }) => name === wanted));
if (unknown)
  throw new Error(`There is no ${unknown}, only ${all.map(({ name }) => name).join(', ')}`);
if (values.write && positionals.length > 0) throw new Error('--write takes all the bugs');

const wanted = all.filter(({ name }) => positionals.length === 0 || positionals.includes(name));
const commit = describeTree(); // of what is copied now: others may follow meanwhile
copyTree();
control(wanted);
const results = wanted.map(tryPatch);
const missed = results.filter(({ found }) => !found);
console.log(`${results.length - missed.length} of ${results.length} bugs were found`);
if (values.write) fs.writeFileSync(report, page(commit, results));
process.exitCode = missed.length > 0 ? 1 : 0;
