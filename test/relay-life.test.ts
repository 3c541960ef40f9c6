// What relays keep alive, and relays that nobody holds on to. exits.test.ts: processes that end.
import { beforeAll, expect, test } from 'vitest';
import { relay } from 'zerocopy';
import { backends } from './helpers/backends';
import { pattern } from './helpers/files';
import { expectSame } from './helpers/http';
import { runNode, sleep } from './helpers/process';
import { ends, readToEnd, warmUp } from './helpers/relay';
import { receiveBytes } from './helpers/sockets';

beforeAll(warmUp);

test('an ended relay keeps no process alive, one under way does', async () => {
  const ended = await runNode('relay-alive.mjs', ['ended']);
  expect(ended).toEqual({ code: 0, signal: null, stdout: 'ready\n', stderr: '' });
  const idle = await runNode('relay-alive.mjs', ['idle']);
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
