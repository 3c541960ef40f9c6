// Answers whose bytes the kernel stops to move in mid-body, for what is no fault of the connection.
// What is told to fail fails in native code: test/support/seam.cc.
import * as http from 'node:http';
import { describe, expect, onTestFinished, test } from 'vitest';
import type { TransferError } from 'zerocopy';
import { testFile } from './helpers/files';
import { type Injection, inject, zerocopy } from './helpers/seam';
import { request } from './helpers/servers';
import { listenOnPort } from './helpers/sockets';

const { createReadStream, transfer } = zerocopy;

/** Serves by `respond`; what it answers, over one connection, to a request and to the next. */
async function serve(respond: (response: http.ServerResponse) => void) {
  const server = http.createServer((_, response) => respond(response));
  const port = await listenOnPort(server);
  const agent = new http.Agent({ keepAlive: true, maxSockets: 1 });
  onTestFinished(() => {
    agent.destroy();
    server.close();
    inject();
  });
  return async (injection: Injection) => {
    inject(injection);
    const first = await request({ port }, '/', { agent });
    inject();
    const second = await request({ port }, '/', { agent });
    return [first.body, second.body] as const;
  };
}

const injections: Injection[] = [
  { call: 'sendfile', number: 1, fault: 'ENOMEM' },
  { call: 'sendfile', number: 2, fault: 'EOVERFLOW' },
  { call: 'sendfile', number: 3, fault: 'EACCES' },
  { call: 'send', number: 2, fault: 'ENOBUFS' },
];

describe.each(injections)('$call#$number fails with $fault', (injection) => {
  // Else the client would take what comes next for the chunk's bytes.
  test('a chunk that has begun is brought to its end, and the rest comes by streams', async () => {
    const { path, content } = testFile(200_000);
    const ask = await serve((response) => createReadStream(path).pipe(response));
    const [first, second] = await ask(injection);
    expect(first.equals(content)).toBe(true);
    expect(second.equals(content)).toBe(true);
  });

  test('the same of a transfer that fails, and the answer goes on', async () => {
    const { path, content } = testFile(200_000);
    const errors: TransferError[] = [];
    const ask = await serve((response) => {
      const sent = transfer(path, response, { endSink: false });
      sent.catch((error) => errors.push(error)).then(() => response.end('the end'));
    });
    const [first, second] = await ask(injection);
    const [{ code, transferred } = { code: 'none', transferred: 0 }] = errors;
    expect(code).toBe(injection.fault);
    const expected = Buffer.concat([content.subarray(0, transferred), Buffer.from('the end')]);
    expect(first.equals(expected)).toBe(true);
    expect(second.equals(Buffer.concat([content, Buffer.from('the end')]))).toBe(true);
  });
});
