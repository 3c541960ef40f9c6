// Clients that read slowly, or not at all, or have gone without a word; that ask for thousands of
// things at once, and for what there is not.
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { Agent } from 'node:http';
import { expect, test } from 'vitest';
import { type Hosts, httpWays, leavesNothing, rawWays, startHosts } from './helpers/hostile';
import { sleep, until } from './helpers/process';
import { PATIENCE } from './helpers/sanitizers';
import { request } from './helpers/servers';
import { clientProgram, descriptorsOf, residentBytesOf } from './hostile/harness.mjs';
import { contentOf } from './hostile/marks.mjs';

const MIB = 1024 * 1024;
const timeout = 120_000 * PATIENCE;
/** Larger than what the kernel takes of it, with a server whose buffers are small. */
const big = { buffers: 32 * 1024, sizes: [500_001] };

/** Has clients connect, and tells what the server holds while they do nothing. */
async function whileHeld({ server, client }: Hosts, options: Parameters<Hosts['client']>[0][]) {
  const before = { descriptors: descriptorsOf(server.pid), bytes: residentBytesOf(server.pid) };
  const { accepted } = await server.ask('counts');
  const reports = options.map((each) => client({ ...each, hold: 2000 }));
  const connections = options.reduce((sum, { count }) => sum + Number(count), 0);
  const all = async () => (await server.ask('counts')).accepted - accepted >= connections;
  while (!(await all())) await sleep(50);
  await sleep(500);
  const held = {
    connections,
    descriptors: descriptorsOf(server.pid) - before.descriptors,
    bytes: residentBytesOf(server.pid) - before.bytes,
  };
  return { ...held, reports: await Promise.all(reports) };
}

test('a byte at a time', { timeout }, async () => {
  const hosts = await startHosts(big);
  const { http, raw, relayToHttp } = hosts.server.ports;
  await leavesNothing(hosts, async () => {
    const slow = { chunk: 1, every: 1, count: 20, 'at-once': 20, 'receive-buffer': 4096 };
    const reports = await Promise.all([
      hosts.client({ ...slow, port: http, ways: httpWays, stop: '500-1000' }),
      hosts.client({ ...slow, port: relayToHttp, ways: httpWays, stop: '500-1000' }),
      hosts.client({ ...slow, kind: 'raw', port: raw, ways: rawWays, stop: '500-1000' }),
      // Beside them others are answered at once.
      hosts.client({ port: http, ways: httpWays, count: 4, requests: 4, 'at-once': 2 }),
    ]);
    expect(reports.map(({ stopped }) => stopped)).toEqual([20, 20, 20, 0]);
  });
});

test('200 connections with a window that is closed, and then all of it', { timeout }, async () => {
  const hosts = await startHosts(big);
  const { http, raw, relayToRaw } = hosts.server.ports;
  await leavesNothing(hosts, async () => {
    const closed = { count: 50, 'at-once': 50, 'receive-buffer': 32_768 };
    const { descriptors, bytes, reports } = await whileHeld(hosts, [
      { ...closed, port: http, ways: 'pipe,pipeline,chunked' },
      { ...closed, port: http, ways: 'transfer,chunked-transfer,gather' },
      { ...closed, kind: 'raw', port: raw, ways: 'gather,plain,pipe' },
      { ...closed, kind: 'raw', port: relayToRaw, ways: 'gather,plain,pipe' },
    ]);
    // The connection, the file, a duplicate of each; for a relay two more, and their duplicates for
    // each direction, and pipes that are full.
    expect(descriptors).toBeLessThanOrEqual(150 * 4 + 50 * (4 + 6 + 4));
    expect(bytes).toBeLessThan(60 * MIB);
    expect(reports.map(({ whole }) => whole)).toEqual([50, 50, 50, 50]);
  });
});

test('who is stuck for too long is cut off by a timeout', { timeout }, async () => {
  const hosts = await startHosts(big);
  const { http } = hosts.server.ports;
  await leavesNothing(hosts, async () => {
    const stuck = { port: http, count: 60, 'at-once': 60, 'receive-buffer': 4096, whole: 0 };
    const before = descriptorsOf(hosts.server.pid);
    const { accepted } = await hosts.server.ask('counts');
    const report = hosts.client({ ...stuck, ways: httpWays, query: '?idle=300', hold: 3000 });
    const all = async () => (await hosts.server.ask('counts')).accepted - accepted >= 60;
    while (!(await all())) await sleep(50);
    await until(() => descriptorsOf(hosts.server.pid) <= before + 12, 'they are cut off'); // decoys
    expect(await report).toMatchObject({ broken: 60 });
  });
});

/** Most that Node has parsed of one connection before it finds that nobody reads the answers. */
const MOST_REQUESTS_AHEAD = 4500;

test('a flood of pipelined requests, whose answers nobody reads', { timeout }, async () => {
  const hosts = await startHosts({ ...big, sizes: [70_001, 70_003, 70_007] });
  const { http } = hosts.server.ports;
  const flood = { port: http, count: 1, requests: 20_000, pipelined: 1, 'receive-buffer': 32_768 };
  await leavesNothing(
    hosts,
    async () => {
      const { connections, descriptors, bytes, reports } = await whileHeld(hosts, [
        // One reads a part of them later, the others break off in the first.
        { ...flood, ways: httpWays, stop: '50000000-50000000' },
        { ...flood, ways: httpWays, stop: '1000-1000' },
        { ...flood, ways: 'pipe', stop: '0-0' },
        { ...flood, ways: 'transfer', stop: '0-0' },
      ]);
      expect(descriptors).toBeLessThan(connections * MOST_REQUESTS_AHEAD);
      expect(bytes).toBeLessThan(200 * MIB);
      expect(reports.map(({ stopped }) => stopped)).toEqual([1, 1, 1, 1]);
      expect(reports[0]?.whole).toBeGreaterThan(600);
    },
    { mostMiB: 16 },
  );
});

test('thousands of tiny requests on a few connections', { timeout }, async () => {
  const hosts = await startHosts({ sizes: [1, 2, 100, 4096] });
  const { http, raw } = hosts.server.ports;
  await leavesNothing(hosts, async () => {
    const tiny = { count: 4, 'at-once': 4, requests: 600, ranges: 1 };
    const reports = await Promise.all([
      hosts.client({ ...tiny, port: http, ways: httpWays }),
      hosts.client({ ...tiny, port: http, ways: httpWays, pipelined: 1 }),
      hosts.client({ ...tiny, kind: 'raw', port: raw, ways: rawWays }),
      hosts.client({ ...tiny, kind: 'raw', port: raw, ways: rawWays, pipelined: 1 }),
    ]);
    expect(reports.map(({ whole }) => whole)).toEqual([2400, 2400, 2400, 2400]);
  });
});

test('clients that stop, and vanish', { timeout }, async () => {
  const hosts = await startHosts(big);
  const { server, site } = hosts;
  const { http, raw, relayToHttp } = server.ports;
  const files = `files=${site.files.map(({ mark, size }) => `${mark}:${size}`).join()}`;
  await leavesNothing(
    hosts,
    async () => {
      const endless = ['count=1000000', 'at-once=20', files];
      const clients = [
        [`port=${http}`, `ways=${httpWays}`, 'requests=1000000'],
        [`port=${relayToHttp}`, `ways=${httpWays}`, 'requests=1000000'],
        [`port=${raw}`, 'kind=raw', `ways=${rawWays}`, 'requests=1000000'],
        [
          `port=${raw}`,
          'kind=upload',
          'ways=upload',
          `folder=${site.arrivals}`,
          'lengths=0-3000000',
        ],
      ].map((args) => spawn(clientProgram(), [...args, ...endless], { stdio: 'ignore' }));
      const { begun } = await server.ask('counts');
      while ((await server.ask('counts')).begun - begun < 100) await sleep(20);
      for (const client of clients) client.kill('SIGSTOP');
      await sleep(500); // and whatever they have not read fills the buffers
      for (const client of clients) {
        const gone = once(client, 'close');
        client.kill('SIGKILL');
        await gone;
      }
    },
    { mostMiB: 16 },
  );
});

test('ranges that are none', { timeout }, async () => {
  const hosts = await startHosts({ sizes: [100_000] });
  const { http } = hosts.server.ports;
  const whole = contentOf(1, 100_000);
  const agent = new Agent();
  const ranges: [string, number, Buffer?][] = [
    ['0-0', 200, whole.subarray(0, 1)],
    ['99999-99999', 200, whole.subarray(99_999)],
    ['99999-100000', 200, whole.subarray(99_999)],
    ['0-99999999999', 200, whole],
    ['100000-100001', 200, whole.subarray(0, 0)],
    ['9007199254740991-9007199254740991', 200, whole.subarray(0, 0)],
    ['5-2', 416],
    ['-1-5', 416],
    ['0--7', 416],
    ['0.5-7', 416],
    ['9007199254740993-9007199254740999', 416],
    ['1e400-1', 416],
    ['NaN-NaN', 416],
    ['Infinity-Infinity', 416],
  ];
  await leavesNothing(hosts, async () => {
    for (const way of ['naive-pipe', 'naive-transfer', 'naive-gather'])
      for (const [range, status, body] of ranges) {
        const answer = await request({ port: http }, `/${way}/1?range=${range}`, { agent });
        expect({ way, range, status: answer.status }).toEqual({ way, range, status });
        if (body) expect(answer.body.equals(body), `${way} ${range}`).toBe(true);
      }
  });
});
