// Other packages' own tests have the same results with register as without it.
import { spawn } from 'node:child_process';
import * as fs from 'node:fs';
import { createRequire } from 'node:module';
import * as path from 'node:path';
import { expect, test } from 'vitest';
import { scratchFolder } from './helpers/files';
import { fetchSuite } from './support/suites.mjs';

const register = createRequire(import.meta.url).resolve('zerocopy/register');
const counter = path.resolve('test/programs/count.cjs');

/** Runs a suite of node:test; returns each test's outcome, and each stream's backend. */
async function run(folder: string, registered: boolean) {
  const files = fs.readdirSync(path.join(folder, 'test')).filter((name) => /\.test\./.test(name));
  const COUNTS = path.join(folder, `streams-${registered}`);
  const NODE_OPTIONS = `${registered ? `--require ${register} ` : ''}--require ${counter}`;
  const child = spawn(
    process.execPath,
    ['--test', '--test-reporter=tap', ...files.map((name) => path.join('test', name))],
    { cwd: folder, env: { ...process.env, NODE_OPTIONS, COUNTS } },
  );
  let stdout = '';
  child.stdout.on('data', (chunk) => {
    stdout += chunk;
  });
  await new Promise((resolve, reject) => child.on('close', resolve).on('error', reject));
  const outcomes = [...stdout.matchAll(/^ *((?:not )?ok) \d+ - (.*)$/gm)];
  return {
    outcomes: outcomes.map(([, outcome, name]) => `${outcome}: ${name}`).sort(),
    backends: fs.readFileSync(COUNTS, 'utf8').split('\n').slice(0, -1),
  };
}

test.each([
  { name: '@fastify/send', needs: ['supertest'], atLeast: 200, natively: 100 },
  {
    name: '@fastify/static',
    needs: ['@fastify/compress', 'concat-stream', 'fastify', 'pino', 'proxyquire'],
    atLeast: 380,
    natively: 90,
  },
])('$name', { timeout: 120_000 }, async ({ name, needs, atLeast, natively }) => {
  const folder = path.join(scratchFolder(), 'suite');
  fetchSuite(name, needs, folder);
  const ours = await run(folder, true);
  const nodes = await run(folder, false);
  expect(ours.outcomes).toEqual(nodes.outcomes);
  const passed = nodes.outcomes.filter((outcome) => outcome.startsWith('ok'));
  expect(passed.length).toBeGreaterThanOrEqual(atLeast);
  const native = ours.backends.filter((backend) => backend === 'read' || backend === 'sendfile');
  expect(native.length).toBeGreaterThanOrEqual(natively);
  expect(new Set(nodes.backends)).toEqual(new Set(['undefined']));
});
