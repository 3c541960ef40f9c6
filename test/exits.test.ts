import { describe, expect, test } from 'vitest';
import { testFile } from './helpers/files';
import { runNode } from './helpers/process';

const ends = {
  exit: { code: 7, signal: null },
  throw: { code: 1, signal: null },
  SIGTERM: { code: null, signal: 'SIGTERM' },
  destroy: { code: 0, signal: null },
};

describe.each(['opening', 'connecting', 'started', 'under-way', 'ended'])('%s', (stage) => {
  test.each(Object.entries(ends))('a process that ends by %s', async (way, wanted) => {
    const { path } = testFile(16 * 1024 * 1024);
    const { code, signal, stdout, stderr } = await runNode('exit.mjs', [stage, way, path]);
    expect({ code, signal }).toEqual(wanted);
    expect(stdout).toBe('ready\n');
    if (way === 'throw') expect(stderr).toContain('Error: uncaught');
    else expect(stderr).toBe('');
  });
});
