// What clients send, and break off: no byte of one upload is in another's file, nor anywhere else.
import * as fs from 'node:fs';
import * as path from 'node:path';
import { expect, test } from 'vitest';
import { leavesNothing, startHosts, uploadWays } from './helpers/hostile';
import { PATIENCE } from './helpers/sanitizers';
import { checkArrivals } from './hostile/harness.mjs';
import { contentOf } from './hostile/marks.mjs';

const timeout = 120_000 * PATIENCE;
const uploads = { kind: 'upload', ways: uploadWays };
/** Any moment; large enough, and slow enough, for most of them to be under way. */
const abortedByServer = {
  kind: 'upload',
  ways: 'upload-aborted',
  stop: 'never',
  chunk: 20_000,
  every: 1,
};

test('uploads broken off anywhere, beside others that come whole', { timeout }, async () => {
  const hosts = await startHosts({ sizes: [300_001] });
  const { http, raw, relayToHttp, relayToRaw } = hosts.server.ports;
  let seed = 1;
  await leavesNothing(hosts, async () => {
    const ids = (count: number) => ({ 'first-id': hosts.ids(count), seed: seed++ });
    const worst = (count: number) => ({
      ...ids(count),
      count,
      lengths: '0-2000000',
      of: 'sent',
      stop: 'anywhere',
      whole: 0, // the end may be after the last byte, and before the answer
    });
    const good = { count: 10, requests: 6, 'at-once': 2, lengths: '0-1000000' };
    const [toRaw, relayed, put, aborted, ...others] = await Promise.all([
      hosts.client({ ...uploads, ...worst(100), port: raw }),
      hosts.client({ ...uploads, ...worst(50), port: relayToRaw }),
      hosts.client({ ...worst(50), kind: 'put', ways: 'put', port: http }),
      hosts.client({ ...worst(50), ...abortedByServer, port: raw }),
      hosts.client({ ...uploads, ...good, ...ids(60), port: raw }),
      hosts.client({ ...uploads, ...good, ...ids(60), port: relayToRaw }),
      hosts.client({ ...good, ...ids(60), kind: 'put', ways: 'put', port: relayToHttp }),
      hosts.client({ ...good, ...ids(60), kind: 'copy', port: raw }),
    ]);
    expect(aborted?.broken).toBeGreaterThan(10);
    for (const report of [toRaw, relayed, put]) expect(report?.stopped).toBeGreaterThan(40);
    for (const report of others) expect(report).toMatchObject({ whole: 60, files: 60 });
  });
});

test('broken off at every one of the first bytes, by a reset and by an end', {
  timeout,
}, async () => {
  const hosts = await startHosts({ sizes: [1000] });
  const { raw, relayToRaw } = hosts.server.ports;
  await leavesNothing(hosts, async () => {
    for (const how of ['reset', 'close', 'half'])
      for (const port of [raw, relayToRaw]) {
        const ids = { 'first-id': hosts.ids(130), whole: 0 };
        const all = { ...uploads, ...ids, port, count: 130, lengths: '100-100' };
        await hosts.client({ ...all, of: 'sent', stop: '0-129', how });
      }
  });
});

test('a byte now and then, for many at once: each in its own file', { timeout }, async () => {
  const hosts = await startHosts({ sizes: [1000] });
  const { http, raw, relayToRaw } = hosts.server.ports;
  await leavesNothing(hosts, async () => {
    const slow = { count: 50, 'at-once': 50, lengths: '200-400', chunk: 1, every: 2 };
    const reports = await Promise.all([
      hosts.client({ ...uploads, ...slow, 'first-id': hosts.ids(50), port: raw }),
      hosts.client({ ...uploads, ...slow, 'first-id': hosts.ids(50), port: relayToRaw }),
      hosts.client({ ...slow, kind: 'put', ways: 'put', 'first-id': hosts.ids(50), port: http }),
      hosts.client({ ...uploads, 'first-id': hosts.ids(40), count: 40, port: raw }),
    ]);
    expect(reports.map(({ files }) => files)).toEqual([50, 50, 50, 40]);
  });
});

test('what has arrived is looked at: a byte of another upload is found', async () => {
  const { site } = await startHosts({ sizes: [1000] });
  const file = path.join(site.arrivals, '77');
  fs.writeFileSync(file, Buffer.concat([contentOf(77, 5000), contentOf(78, 1, 5000)]));
  expect(() => checkArrivals(site)).toThrow('WRONG BYTES');
});
