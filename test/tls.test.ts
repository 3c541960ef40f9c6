import * as tls from 'node:tls';
import { expect, onTestFinished, test } from 'vitest';
import { createReadStream, type ReadStream, transfer } from 'zerocopy';
import { testFile } from './helpers/files';
import { withResolvers } from './helpers/process';
import { listenOnPort, receive } from './helpers/sockets';
import { certificate } from './helpers/tls';

async function server(onConnection: (socket: tls.TLSSocket) => void) {
  const server = tls.createServer(certificate(), onConnection);
  onTestFinished(() => {
    server.close();
  });
  return listenOnPort(server);
}

test('a TLSSocket encrypts what a transfer sends, in order with other writes', async () => {
  const file = testFile(1_000_000);
  const results: Promise<unknown>[] = [];
  const port = await server((sink) => {
    sink.write('before');
    results.push(transfer(file.path, sink), transfer([Buffer.from('memory')], sink));
    sink.end('after');
  });
  const client = tls.connect({ port, host: '127.0.0.1', rejectUnauthorized: false });
  const bytes = await receive(client);
  const wanted = ['before', file.content, 'memoryafter'].map((part) => Buffer.from(part));
  expect(bytes.equals(Buffer.concat(wanted))).toBe(true);
  for (const result of await Promise.all(results)) {
    expect(result).toMatchObject({ backend: 'stream', fallback: { code: 'TLS', at: 0 } });
  }
});

test('a TLSSocket encrypts what is piped to it', async () => {
  const file = testFile(1_000_000);
  const streams: ReadStream[] = [];
  const port = await server((sink) => {
    streams.push(createReadStream(file.path));
    streams[0]?.pipe(sink);
  });
  const client = tls.connect({ port, host: '127.0.0.1', rejectUnauthorized: false });
  expect((await receive(client)).equals(file.content)).toBe(true);
  expect(streams).toMatchObject([{ backend: 'stream', fallback: { code: 'TLS', at: 0 } }]);
});

test('a TLSSocket that is still connecting, and a native transfer to one', async () => {
  const file = testFile(100_000);
  const received = withResolvers<Buffer>();
  const port = await server((socket) => received.resolve(receive(socket)));
  const client = tls.connect({ port, host: '127.0.0.1', rejectUnauthorized: false });
  onTestFinished(() => {
    client.destroy();
  });
  expect(client.connecting).toBe(true);
  const refused = transfer(file.path, client, { backend: 'native' });
  const sent = transfer(file.path, client, { endSink: true });
  await expect(refused).rejects.toMatchObject({ code: 'ERR_NOT_NATIVE', cause: { code: 'TLS' } });
  expect((await sent).fallback?.code).toBe('TLS');
  expect((await received.promise).equals(file.content)).toBe(true);
});
