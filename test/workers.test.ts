import { expect, test } from 'vitest';
import { testFile } from './helpers/files';
import { runNode } from './helpers/process';

const MIB = 1024 * 1024;

test('4 worker threads transfer at once', async () => {
  const { path } = testFile(4 * MIB);
  const { code, stdout, stderr } = await runNode('workers.mjs', ['transfer', path]);
  expect(stderr).toBe('');
  expect(code).toBe(0);
  const { right, backends } = JSON.parse(stdout);
  expect(right).toBe(16);
  expect(backends).toEqual(Array(16).fill('sendfile'));
});

// 'only': when the last environment that has loaded an addon ends, it would be unloaded, were it
// not linked with -z nodelete, while the engine's threads run in it.
test.each(['terminate', 'only'])('workers terminated in mid-transfer: %s', async (task) => {
  const { path } = testFile(16 * MIB);
  const { code, stdout, stderr, signal } = await runNode('workers.mjs', [task, path, '20']);
  expect(stderr).toBe('');
  expect({ code, signal }).toEqual({ code: 0, signal: null });
  // Each worker's four sockets are closed; the peers' ends go when they notice.
  expect(JSON.parse(stdout).grown).toBeLessThanOrEqual(4 * 20);
});
