import { expect, test } from 'vitest';
import { backends } from './helpers/backends';
import { testFile } from './helpers/files';
import { runNode } from './helpers/process';
import { fifo } from './helpers/sources';

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

const nothingLeft = [
  { grown: 0, closed: 0 },
  { grown: 0, closed: 0 },
];

// A worker, when it ends, closes what its fs has opened: the numbers, whatever they name by then.
test.each(backends)('%s: what a worker opens is closed once, and only that', async (backend) => {
  const pipe = fifo();
  const { code, stdout, stderr } = await runNode('worker-files.cjs', [pipe, backend]);
  expect(stderr).toBe('');
  expect(code).toBe(0);
  expect(JSON.parse(stdout)).toEqual({
    'opened by Node': nothingLeft,
    'opened by native code': nothingLeft,
    'a device': nothingLeft,
    'a directory': nothingLeft,
    'a FIFO': nothingLeft,
    'a pipe': nothingLeft,
    'a pipe, left open': nothingLeft,
  });
});
