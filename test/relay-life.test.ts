// Relays whose process or worker ends under them, and relays that nobody holds on to.
import { beforeAll, describe, expect, test } from 'vitest';
import { relay } from 'zerocopy';
import { backends } from './helpers/backends';
import { pattern } from './helpers/files';
import { expectSame } from './helpers/http';
import { runNode, sleep } from './helpers/process';
import { ends, readToEnd, warmUp } from './helpers/relay';
import { receiveBytes } from './helpers/sockets';

beforeAll(warmUp);

const stages = ['connecting', 'idle', 'under-way', 'stuck', 'half-closed', 'ended'];
const ways = {
  exit: { code: 7, signal: null },
  throw: { code: 1, signal: null },
  SIGTERM: { code: null, signal: 'SIGTERM' },
  destroy: { code: 0, signal: null },
};

describe.each(stages)('%s', (stage) => {
  test.each(Object.entries(ways))('a process that ends by %s', async (way, wanted) => {
    const { code, signal, stdout, stderr } = await runNode('relay-exit.mjs', [stage, way]);
    if (way === 'throw') expect(stderr).toContain('Error: uncaught');
    else expect(stderr).toBe('');
    expect({ code, signal }).toEqual(wanted);
    expect(stdout).toBe('ready\n');
  });

  // A dup that outlived its worker would hold the connection open.
  test('workers that are terminated: all connections are closed', async () => {
    const { code, signal, stdout, stderr } = await runNode('relay-workers.mjs', [stage]);
    expect({ code, signal, stderr }).toEqual({ code: 0, signal: null, stderr: '' });
    const { open, closed } = JSON.parse(stdout);
    expect(closed).toBe(open);
    if (stage !== 'connecting') expect(open).toBe(5 * 20);
  });
});

test('an ended relay keeps no process alive, one under way does', async () => {
  const ended = await runNode('relay-exit.mjs', ['ended', 'nothing']);
  expect(ended).toEqual({ code: 0, signal: null, stdout: 'ready\n', stderr: '' });
  const idle = await runNode('relay-exit.mjs', ['idle', 'later']);
  expect(idle).toEqual({ code: 0, signal: null, stdout: 'ready\nlater\n', stderr: '' });
});

test.each(backends)('%s: garbage collection in mid-transfer', async (backend) => {
  const content = pattern(4 * 1024 * 1024, 51);
  const start = async () => {
    const { a, b, aPeer, bPeer } = await ends({ narrow: true });
    const controller = new AbortController();
    relay(a, b, { backend, signal: controller.signal });
    return { aPeer, bPeer };
  };
  const peers = await Promise.all(Array.from({ length: 10 }, start));
  const collect = setInterval(() => globalThis.gc?.(), 5);
  try {
    await Promise.all(
      peers.map(async ({ aPeer, bPeer }) => {
        aPeer.write(content);
        expectSame(await receiveBytes(bPeer, 100_000), content.subarray(0, 100_000));
        await sleep(20);
        const atA = readToEnd(aPeer);
        const atB = readToEnd(bPeer);
        aPeer.end();
        bPeer.end('done');
        expectSame(await atB, content.subarray(100_000));
        expect((await atA).toString()).toBe('done');
      }),
    );
  } finally {
    clearInterval(collect);
  }
});
