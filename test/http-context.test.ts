// AsyncLocalStorage: what happens to a stream and its response happens in the request's own.
import { AsyncLocalStorage } from 'node:async_hooks';
import { once } from 'node:events';
import * as fs from 'node:fs';
import * as http from 'node:http';
import { finished } from 'node:stream';
import { describe, expect, onTestFinished, test } from 'vitest';
import { createReadStream, transfer } from 'zerocopy';
import { testFile } from './helpers/files';
import { type Open, requestTo, serve } from './helpers/http';
import { until } from './helpers/process';

const REQUESTS = 60;
const store = new AsyncLocalStorage<number>();

type Seen = { event: string; number: number; store: number | undefined };

/** Many requests on few connections, of which each notes what it sees. */
async function serveMany(handler: (number: number, response: http.ServerResponse) => void) {
  const { address } = await serve((request, response) => {
    const number = Number(request.url?.slice(1));
    store.run(number, () => {
      if (number % 2) setImmediate(handler, number, response);
      else handler(number, response);
    });
  });
  const agent = new http.Agent({ keepAlive: true, maxSockets: 3 });
  onTestFinished(() => agent.destroy());
  const bodies = Array.from({ length: REQUESTS }, async (_, number) => {
    const request = http.get({ ...requestTo(address), path: `/${number}`, agent });
    const [response] = (await once(request, 'response')) as [http.IncomingMessage];
    let bytes = 0;
    for await (const chunk of response) bytes += chunk.length;
    return bytes;
  });
  return Promise.all(bodies);
}

const sizes = [10, 40_000, 2_000_000];

describe.each([
  ['fs', (file: string) => fs.createReadStream(file)],
  ['zerocopy', (file: string) => createReadStream(file)],
] as [string, Open][])('%s', (_name, open) => {
  test('the events of streams and responses', async () => {
    const files = sizes.map((size) => testFile(size));
    const seen: Seen[] = [];
    const note = (event: string, number: number) => () =>
      seen.push({ event, number, store: store.getStore() });
    const bytes = await serveMany((number, response) => {
      const file = files[number % files.length];
      if (number % 4 > 1) response.setHeader('Content-Length', file?.content.length ?? 0);
      const stream = open(file?.path ?? '');
      for (const event of ['open', 'ready', 'end', 'close']) stream.on(event, note(event, number));
      response.on('finish', note('finish', number)).on('pipe', note('pipe', number));
      finished(stream, note('finished', number));
      stream.pipe(response);
    });
    expect(bytes).toEqual(Array.from({ length: REQUESTS }, (_, i) => sizes[i % sizes.length]));
    await until(() => seen.length >= REQUESTS * 7, 'all has happened');
    expect(seen).toHaveLength(REQUESTS * 7);
    expect(seen.filter(({ number, store }) => number !== store)).toEqual([]);
  });

  test("'error'", async () => {
    const seen: Seen[] = [];
    await serveMany((number, response) => {
      const stream = open(`/nowhere/${number}`);
      for (const event of ['error', 'close']) {
        stream.on(event, () => {
          seen.push({ event, number, store: store.getStore() });
          if (event === 'close') response.end('nothing');
        });
      }
      stream.pipe(response);
    });
    expect(seen).toHaveLength(REQUESTS * 2);
    expect(seen.filter(({ number, store }) => number !== store)).toEqual([]);
  });
});

test('transfer(), its promise and its progress', async () => {
  const files = sizes.map((size) => testFile(size));
  const seen: Seen[] = [];
  await serveMany(async (number, response) => {
    const onProgress = () => seen.push({ event: 'progress', number, store: store.getStore() });
    response.on('finish', () => seen.push({ event: 'finish', number, store: store.getStore() }));
    await transfer(files[number % files.length]?.path ?? '', response, { onProgress });
    seen.push({ event: 'done', number, store: store.getStore() });
  });
  await until(() => seen.length >= REQUESTS * 3, 'all has happened');
  expect(seen.filter(({ number, store }) => number !== store)).toEqual([]);
});
