// A server that uses the library, for clients that mean it harm: after them it holds what it held
// before, and has written nothing where it shouldn't.
import { expect, onTestFinished, test } from 'vitest';
import {
  type ClientOptions,
  checkArrivals,
  checkSite,
  clientProgram,
  type HostileSite,
  makeSite,
  type Report,
  runClient,
  Server,
} from '../hostile/harness.mjs';
import { scratchFolder } from './files';
import { hasSanitizers, noMeasuring } from './sanitizers';

const MIB = 1024 * 1024;
/** Or V8's young generation takes up to 48 MiB, and gives them back, as it thinks best. */
const PINNED_HEAP = '--max-semi-space-size=1';

const sizes = [1, 1000, 64 * 1024 + 1, 300_001, 3 * MIB + 5];

/** Ways of the server to answer: by streams and by transfers, at once or held up by the queue. */
export const httpWays = 'pipe,pipeline,chunked,transfer,chunked-transfer,gather,descriptor,stream';
export const rawWays = 'gather,plain,pieces,pipe,resumed,stream';

export const uploadWays = 'upload,upload-stream,upload-descriptor';

export interface Hosts {
  server: Server;
  site: HostileSite;
  /** Runs a client; every byte that it gets has been checked. */
  client(options: ClientOptions): Promise<Report>;
  /** An id that no file has had: for as many as that. */
  ids(count: number): number;
}

interface Settings {
  sizes?: number[];
  /** Of the sockets, so that whoever doesn't read is soon felt. */
  buffers?: number;
}

/** A server that goes with the test, which has sent a file in each way. */
export async function startHosts({ buffers, ...settings }: Settings = {}): Promise<Hosts> {
  const site = makeSite(scratchFolder(), settings.sizes ?? sizes);
  const server = await Server.start(site, {
    execArgv: ['--expose-gc', PINNED_HEAP],
    ...(buffers !== undefined && { buffers }),
  });
  onTestFinished(() => server.stop());
  let lastId = 1000;
  const hosts: Hosts = {
    server,
    site,
    client: (options) =>
      runClient(clientProgram(), { files: site.files, folder: site.arrivals, ...options }),
    ids: (count) => {
      lastId += count;
      return lastId - count;
    },
  };
  await everyWay(hosts);
  return hosts;
}

/** What the engine and Node open once, they have open after this. */
async function everyWay({ server, client, ids }: Hosts): Promise<void> {
  const { http, raw, relayToHttp, relayToRaw } = server.ports;
  for (const port of [http, relayToHttp]) await client({ port, ways: httpWays, count: 12 });
  for (const port of [raw, relayToRaw]) {
    await client({ kind: 'raw', port, ways: rawWays, count: 12 });
    await client({
      kind: 'upload',
      port,
      ways: uploadWays,
      'first-id': ids(12),
      count: 12,
    });
  }
  await client({ kind: 'copy', port: raw, 'first-id': ids(12), count: 12 });
}

// Of each file that has this, since all of its tests leave it out.
if (hasSanitizers) test.skip(`as much memory as after the first time${noMeasuring}`, () => {});

/**
 * Has clients do their worst, twice. Afterwards nothing is left: no connection, transfer, descriptor
 * or thread; no more of the heap, and about as much memory as after the first time.
 */
export async function leavesNothing(
  hosts: Hosts,
  worst: () => Promise<unknown>,
  { mostMiB = 8 } = {},
): Promise<void> {
  const { server, site } = hosts;
  const before = await server.idle();
  const held = [];
  for (let round = 0; round < 2; round++) {
    await worst();
    const { descriptors, threads } = await server.idle();
    expect({ descriptors, threads }).toEqual({
      descriptors: before.descriptors,
      threads: before.threads,
    });
    checkArrivals(site);
    held.push(await server.ask('memory'));
  }
  checkSite(site);
  const [first, second] = held as [NodeJS.MemoryUsage, NodeJS.MemoryUsage];
  expect(second.heapUsed - first.heapUsed).toBeLessThan(MIB);
  if (!hasSanitizers) expect(second.rss - first.rss).toBeLessThan(mostMiB * MIB);
}
