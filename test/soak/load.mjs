// The load of a soak: who comes in a wave, and how many of them.
import { runClient } from '../hostile/harness.mjs';
import { runTlsClient } from './tls-client.mjs';

const http = 'pipe,pipeline,chunked,transfer,chunked-transfer,gather,descriptor,stream';
const raw = 'gather,plain,pieces,pipe,resumed,stream';
const some = { ranges: 1, lengths: '1-300000' };
const any = { ranges: 1, lengths: '1-4000000' };
/** So that the server has to wait for whoever reads. */
const stiff = { 'receive-buffer': 8192, chunk: 16_384, every: 2 };
const uploads = {
  kind: 'upload',
  ways: 'upload,upload-stream,upload-descriptor',
  lengths: '0-600000',
};

/**
 * `share`: of a hundred connections. `to`: a port of the server's. The rest is as client.c explains
 * it. Those with `whole: 0` may be cut short, the others must get all that they ask for.
 */
const kinds = [
  // In good behaviour.
  { share: 15, to: 'http', ways: http, ...some, requests: 4 },
  { share: 4, to: 'http', ways: http, ...any },
  { share: 5, to: 'http', ways: http, ...some, requests: 10, pipelined: 1 },
  { share: 8, to: 'raw', kind: 'raw', ways: raw, ...some, requests: 4 },
  { share: 4, to: 'unix', kind: 'raw', ways: raw, ...some, requests: 4 },
  { share: 5, to: 'relayToHttp', ways: http, ...some, requests: 4 },
  { share: 5, to: 'relayToRaw', kind: 'raw', ways: raw, ...some, requests: 4 },
  { share: 6, to: 'raw', ...uploads, requests: 2 },
  { share: 3, to: 'relayToRaw', ...uploads, requests: 2 },
  { share: 3, to: 'http', kind: 'put', ways: 'put', lengths: '0-600000', requests: 2 },
  { share: 3, to: 'raw', kind: 'copy', requests: 2 },
  { share: 4, to: 'https', ways: http, requests: 2 },
  // Slow, or not reading at all for a while.
  { share: 4, to: 'http', ways: http, ...some, chunk: 4096, every: 5, 'receive-buffer': 8192 },
  { share: 2, to: 'relayToRaw', kind: 'raw', ways: raw, ...some, chunk: 4096, every: 5 },
  { share: 2, to: 'http', ways: http, ...any, hold: 1000, 'receive-buffer': 8192 },
  // Breaking off.
  { share: 8, to: 'http', ways: http, ...any, stop: 'anywhere' },
  { share: 2, to: 'http', ways: http, ...any, stop: 'anywhere', how: 'close' },
  { share: 2, to: 'http', ways: http, ...some, stop: 'anywhere', how: 'half', whole: 0 },
  { share: 3, to: 'relayToHttp', ways: http, ...any, stop: 'anywhere' },
  { share: 2, to: 'raw', kind: 'raw', ways: raw, ...any, stop: 'anywhere' },
  { share: 3, to: 'raw', ...uploads, of: 'sent', stop: 'anywhere', whole: 0 },
  // Broken off: by AbortSignals, destroyed connections, timeouts, truncated files.
  {
    share: 2,
    to: 'http',
    ways: 'transfer,gather,pipeline',
    ...any,
    ...stiff,
    query: '?abort=20',
    whole: 0,
  },
  { share: 2, to: 'http', ways: http, ...any, ...stiff, query: '?die=20', whole: 0 },
  {
    share: 1,
    to: 'http',
    ways: http,
    query: '?idle=200',
    hold: 1000,
    'receive-buffer': 4096,
    whole: 0,
  },
  { share: 1, to: 'http', ways: 'truncated', ...any, whole: 0 },
  { share: 1, to: 'raw', ...uploads, ways: 'upload-aborted', chunk: 20_000, every: 1, whole: 0 },
];

/** Range requests that are broken off, beside all that: as many as there is time for. */
const aborts = {
  to: 'http',
  ways: 'pipe,transfer',
  ranges: 1,
  lengths: '1-200000',
  stop: 'anywhere',
};

/** An id for each file that is made. */
let lastId = 1000;

/** How many of a hundred. Whole connections, and at least one of each kind. */
const shareOf = ({ share }, connections) => Math.max(1, Math.round((share * connections) / 100));

/**
 * One wave: so many connections, spread over these seconds, until the last one has ended.
 * @returns {Promise<{ reports: object[], complaints: string[] }>}
 */
export async function wave({ server, program, connections, aborted, seconds, seed }) {
  const { site, ports } = server;
  const complaints = [];
  const all = kinds.map((kind) => [kind, shareOf(kind, connections)]);
  const clients = [...all, [aborts, aborted]].map(async ([{ share, to, ...options }, count], i) => {
    const rate = count / seconds;
    const id = lastId;
    lastId += count * (options.requests ?? 1);
    try {
      if (to === 'https')
        return await runTlsClient({ port: ports.https, site, count, rate, ...options });
      return await runClient(program, {
        ...(to === 'unix' ? { socket: site.socket } : { port: ports[to] }),
        ...options,
        files: site.files,
        folder: site.arrivals,
        'first-id': id,
        count,
        rate,
        'at-once': 64,
        seed: seed * 100 + i + 1,
      });
    } catch (error) {
      complaints.push(error.message);
      return { connections: 0, bytes: 0 };
    }
  });
  return { reports: await Promise.all(clients), complaints };
}
