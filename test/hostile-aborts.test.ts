// Clients that break off, anywhere, and others beside them that must get what they asked for: no byte
// of another file, no connection cut short that isn't the one.
import { expect, test } from 'vitest';
import { httpWays, leavesNothing, rawWays, startHosts } from './helpers/hostile';
import { PATIENCE } from './helpers/sanitizers';

const TIMEOUT_MS = 120_000 * PATIENCE;

/** How many transfers of a way have ended with some code. */
function failuresOf(way: string, how: Record<string, number>): number {
  const failures = Object.entries(how).filter(([name]) => name.startsWith(`${way} E`));
  return failures.reduce((sum, [, count]) => sum + count, 0);
}

test('10,000 range requests broken off anywhere, twice', { timeout: TIMEOUT_MS }, async () => {
  const hosts = await startHosts();
  const { http } = hosts.server.ports;
  let seed = 1;
  await leavesNothing(hosts, async () => {
    const asks = { port: http, ranges: 1, lengths: '1-400000', seed: seed++ };
    const worst = [
      { ...asks, ways: 'pipe,pipeline', count: 5000, 'at-once': 32, stop: 'anywhere' },
      { ...asks, ways: 'transfer,gather', count: 5000, 'at-once': 32, stop: 'anywhere' },
    ];
    const [pipes, transfers, others] = await Promise.all([
      ...worst.map(hosts.client),
      hosts.client({ ...asks, ways: httpWays, count: 40, 'at-once': 4, requests: 25 }),
    ]);
    for (const report of [pipes, transfers]) {
      expect(report?.connections).toBe(5000);
      expect(report?.stopped).toBeGreaterThan(4000);
    }
    expect(others?.whole).toBe(1000);
  });
});

test('reset after every byte of an answer: in its head, in its chunks, at its last', {
  timeout: TIMEOUT_MS,
}, async () => {
  const hosts = await startHosts({ sizes: [100] });
  const { http, raw, relayToHttp, relayToRaw } = hosts.server.ports;
  await leavesNothing(hosts, async () => {
    for (const port of [http, relayToHttp])
      for (const ways of ['pipe', 'chunked', 'transfer', 'chunked-transfer', 'gather']) {
        const report = await hosts.client({ port, ways, count: 330, stop: '0-329' });
        // The last ones have come to the end of the answer.
        expect(report.stopped).toBeGreaterThan(220);
        expect(report.stopped + report.whole).toBe(330);
        expect(report.whole).toBeGreaterThan(0);
      }
    for (const port of [raw, relayToRaw])
      for (const ways of ['gather', 'plain', 'pipe']) {
        const report = await hosts.client({ kind: 'raw', port, ways, count: 120, stop: '0-119' });
        expect(report.stopped).toBeGreaterThan(100);
        expect(report.whole).toBeGreaterThan(0);
      }
  });
});

test('reset in the middle of what the server waits to send', { timeout: TIMEOUT_MS }, async () => {
  const hosts = await startHosts({ buffers: 32 * 1024, sizes: [500_001] });
  const { http, raw, relayToHttp, relayToRaw } = hosts.server.ports;
  let seed = 1;
  await leavesNothing(hosts, async () => {
    const worst = { count: 60, 'receive-buffer': 16_384, stop: 'anywhere', seed: seed++ };
    const good = { count: 6, requests: 4, 'at-once': 2 };
    await Promise.all([
      hosts.client({ ...worst, port: http, ways: httpWays }),
      hosts.client({ ...worst, port: relayToHttp, ways: httpWays }),
      hosts.client({ ...worst, kind: 'raw', port: raw, ways: rawWays }),
      hosts.client({ ...worst, kind: 'raw', port: relayToRaw, ways: rawWays }),
      hosts.client({ ...good, port: http, ways: httpWays }),
      hosts.client({ ...good, kind: 'raw', port: relayToRaw, ways: rawWays }),
    ]);
  });
  const { how } = await hosts.server.ask('counts');
  for (const way of ['transfer', 'raw gather', 'relay'])
    expect(failuresOf(way, how), way).toBeGreaterThan(0);
});

test('half-closed at every moment: what was asked for comes, or nothing', {
  timeout: TIMEOUT_MS,
}, async () => {
  const hosts = await startHosts();
  const { http, raw, relayToHttp, relayToRaw } = hosts.server.ports;
  let seed = 1;
  await leavesNothing(hosts, async () => {
    const half = { how: 'half', whole: 0, seed: seed++ };
    for (const port of [http, relayToHttp]) {
      // In the request, which has some 40 bytes, and behind it.
      await hosts.client({ ...half, port, ways: httpWays, count: 200, of: 'sent', stop: '0-59' });
      await hosts.client({ ...half, port, ways: httpWays, count: 100, stop: 'anywhere' });
    }
    for (const port of [raw, relayToRaw]) {
      const asks = { ...half, kind: 'raw', port, ways: rawWays };
      await hosts.client({ ...asks, count: 100, of: 'sent', stop: '0-24' });
      // Here the answer goes on, to its end.
      const report = await hosts.client({ ...asks, whole: 1, count: 100, stop: '1-200000' });
      expect(report.whole).toBe(100);
    }
  });
});

test('the server breaks off itself: aborts, destroyed connections, truncated files', {
  timeout: TIMEOUT_MS,
}, async () => {
  const hosts = await startHosts({ buffers: 64 * 1024 });
  const { http, raw, relayToHttp, relayToRaw } = hosts.server.ports;
  let seed = 1;
  await leavesNothing(hosts, async () => {
    const hurt = { whole: 0, count: 300, seed: seed++ };
    const good = { ways: httpWays, count: 20, requests: 10, 'at-once': 4 };
    const [, , , , first, second, third] = await Promise.all([
      hosts.client({ ...hurt, port: http, ways: 'transfer,gather,pipeline', query: '?abort=3' }),
      hosts.client({ ...hurt, port: http, ways: httpWays, query: '?die=3' }),
      hosts.client({ ...hurt, port: relayToHttp, ways: httpWays, query: '?die=3' }),
      hosts.client({ ...hurt, port: http, ways: 'truncated', count: 100 }),
      hosts.client({ ...good, port: http }),
      hosts.client({ ...good, port: relayToHttp }),
      hosts.client({ ...good, kind: 'raw', port: relayToRaw, ways: rawWays }),
      hosts.client({ ...good, kind: 'raw', port: raw, ways: 'resumed' }),
    ]);
    expect([first, second, third].map((report) => report?.whole)).toEqual([200, 200, 200]);
  });
  const { how } = await hosts.server.ask('counts');
  expect(how['transfer ABORT_ERR']).toBeGreaterThan(0);
  expect(how['truncated ERR_SOURCE_TRUNCATED']).toBeGreaterThan(0);
});
