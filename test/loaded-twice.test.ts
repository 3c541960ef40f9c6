// The package loaded twice in one process: by two versions of what depends on it, by Jest.
import { expect, test } from 'vitest';
import { scratchFolder, testFile } from './helpers/files';
import { runNode } from './helpers/process';

test.each([
  'again',
  'in two contexts',
  // Two environments of one engine.
  'from two folders, of one binary',
  'from two folders',
])('%s: transfers of both, at once and on one socket', async (how) => {
  const folder = scratchFolder();
  const { path } = testFile(1_000_000);
  const { code, signal, stdout, stderr } = await runNode('loaded-twice.cjs', [how, path, folder], {
    limitMs: 20_000,
  });
  expect({ code, signal, stderr }).toEqual({ code: 0, signal: null, stderr: '' });
  const use = {
    right: Array(7).fill(true),
    backends: ['sendfile', 'sendfile', 'splice', 'splice', 'copy_file_range'],
    // Of this copy only; each direction of a relay is one.
    transfers: { sendfile: 2, splice: 3, copy_file_range: 1, read: 0, stream: 0 },
  };
  expect(JSON.parse(stdout)).toEqual({ different: true, uses: [use, use], shared: true });
});
