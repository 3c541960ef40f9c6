// npm run release:check: all that a release must pass.
//   release-check.mjs [--list | STEP...]      what it would run; or some of it
import { execFileSync, spawnSync } from 'node:child_process';
import * as fs from 'node:fs';
import * as path from 'node:path';

/** A command line, or a function that returns what is wrong. In this order. */
const STEPS = {
  tree: { what: 'nothing is uncommitted', run: uncommitted },
  version: {
    what: 'package.json and CHANGELOG.md agree, and npm can tell where it is from',
    run: versions,
  },
  lint: { what: 'Biome, clang-format, the workflows', run: 'npm run lint' },
  types: { what: 'tsc over lib and test', run: 'npm run types' },
  knip: { what: 'nothing is unused', run: 'npm run knip' },
  prebuilds: { what: 'the binaries, and which symbols they need', run: 'npm run prebuild:all' },
  package: {
    what: 'those binaries, packed, installed and used; publint, arethetypeswrong',
    run: 'npx vitest run test/package.test.ts test/bundlers.test.ts',
    env: { ZEROCOPY_PREBUILDS: 'prebuilds' },
  },
  arm64: { what: 'the binary for arm64, under QEMU', run: 'node test/binaries/arm64.mjs' },
  musl: { what: 'those for musl, without Node (minutes)', run: 'node test/binaries/musl.mjs' },
  test: { what: 'the tests', run: 'npm test' },
  native: { what: 'the engine, also with sanitizers', run: 'npm run test:native' },
  asan: { what: 'the tests with sanitizers (half an hour)', run: 'npm run test:asan' },
  // Not npm run test:nodes, which compiles another binary in place of the one to be published.
  nodes: { what: 'the tests under Node.js 20 to 26 (an hour)', run: 'node test/nodes/run.mjs' },
};

process.chdir(path.resolve(import.meta.dirname, '..'));
const args = process.argv.slice(2);
if (args[0] === '--list') {
  for (const [name, { what, run }] of Object.entries(STEPS)) {
    const command = typeof run === 'string' ? `  ${run}` : '';
    console.log(`${name.padEnd(10)} ${what.padEnd(72)}${command}`.trimEnd());
  }
} else {
  const unknown = args.filter((name) => !Object.hasOwn(STEPS, name));
  if (unknown.length > 0) throw new Error(`${unknown.join()}: see --list`);
  const names = args.length > 0 ? args : Object.keys(STEPS);
  // One that fails doesn't keep the others from telling what they find.
  const results = names.map((name) => [name, complaintOf(STEPS[name])]);
  console.log();
  for (const [name, complaint] of results) {
    console.log(
      `${complaint === undefined ? 'ok  ' : 'FAIL'} ${name}${complaint ? `: ${complaint}` : ''}`,
    );
  }
  process.exitCode = results.some(([, complaint]) => complaint !== undefined) ? 1 : 0;
}

function complaintOf({ what, run, env }) {
  console.log(`\n== ${what}`);
  if (typeof run === 'function') return run();
  const options = { shell: true, stdio: 'inherit', env: { ...process.env, ...env } };
  const { status, signal } = spawnSync(run, options);
  return status === 0 ? undefined : `${run}: ${signal ?? `exit code ${status}`}`;
}

function uncommitted() {
  const changes = execFileSync('git', ['status', '--porcelain'], { encoding: 'utf8' });
  return changes === '' ? undefined : `\n${changes}`;
}

function versions() {
  const { version, repository } = JSON.parse(fs.readFileSync('package.json', 'utf8'));
  const changelog = fs.readFileSync('CHANGELOG.md', 'utf8');
  const headings = [...changelog.matchAll(/^## (.*)$/gm)].map(([, heading]) => heading);
  const wrong = [];
  const [newest] = headings.filter((heading) => heading !== 'Unreleased');
  const dated = /^\[?(\d+\.\d+\.\d+\S*?)\]? - \d{4}-\d\d-\d\d$/.exec(newest ?? '');
  if (dated?.[1] !== version) {
    wrong.push(
      `CHANGELOG.md has no "## ${version} - YYYY-MM-DD" on top, but ${newest ?? 'no release'}`,
    );
  }
  const unreleased = changelog.split(/^## /m).find((part) => part.startsWith('Unreleased'));
  if (/^- /m.test(unreleased ?? '')) wrong.push('CHANGELOG.md has unreleased changes');
  if (!repository)
    wrong.push('package.json has no "repository", without which npm takes no provenance');
  return wrong.length > 0 ? wrong.join('; ') : undefined;
}
