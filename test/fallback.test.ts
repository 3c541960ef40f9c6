// Why not native: each reason, provoked.
import * as net from 'node:net';
import { expect, test } from 'vitest';
import { transfer } from 'zerocopy';
import { testFile } from './helpers/files';
import { runNode } from './helpers/process';
import { whyNoStrace } from './helpers/skips';
import { link, receive } from './helpers/sockets';

const why = whyNoStrace('-f', '-e', 'inject=sync:error=EIO');

/** Transfers a file while strace makes the system calls of `rule` fail. */
async function send(file: string, rule: string) {
  const wrapper = ['strace', '-f', '-qq', '-o', '/dev/null', '-e', `inject=${rule}`];
  const { stdout, stderr, code } = await runNode('send.mjs', [file, '--backend', 'auto'], {
    wrapper,
  });
  return { code, stderr, report: code === 0 ? JSON.parse(stdout) : undefined };
}

const nameInNode = (errno: string) => (errno === 'EOPNOTSUPP' ? 'ENOTSUP' : errno);

test.skipIf(why).each([
  ['ENOSYS', 'seccomp, gVisor'],
  ['EPERM', 'seccomp'],
  ['EINVAL', 'a file system without splice_read'],
  ['EOPNOTSUPP', 'a stacked file system'],
  ['EIO', 'CIFS'],
])(`sendfile refused with %s (%s): the file goes by streams${why}`, async (errno) => {
  const { report } = await send(testFile(3_000_000).path, `sendfile:error=${errno}`);
  expect(report).toMatchObject({
    transferred: 3_000_000,
    backend: 'stream',
    fallback: { code: 'UNSUPPORTED', message: `sendfile ${nameInNode(errno)}`, at: 0 },
    right: true,
  });
});

test.skipIf(why)(`sendfile that fails midway is an error${why}`, async () => {
  const { code, stderr } = await send(testFile(30_000_000).path, 'sendfile:error=EIO:when=4+');
  expect(code).toBe(1);
  expect(stderr).toMatch(/code: 'EIO'/);
  expect(stderr).toMatch(/syscall: 'sendfile'/);
  expect(stderr).toMatch(/transferred: [1-9]\d+/);
});

test.skipIf(why)(`without openat2, preadv2, cachestat, readahead${why}`, async () => {
  for (const errno of ['ENOSYS', 'EPERM']) {
    const rule = `openat2,preadv2,?cachestat,readahead:error=${errno}`;
    const { report, stderr } = await send(testFile(5_000_000).path, rule);
    expect(stderr).toBe('');
    expect(report).toMatchObject({ transferred: 5_000_000, backend: 'sendfile', right: true });
  }
});

test.skipIf(why)(`interrupted system calls are made again${why}`, async () => {
  const rule = 'sendfile,preadv2:error=EINTR:when=1+3';
  const { report } = await send(testFile(5_000_000).path, rule);
  expect(report).toMatchObject({ transferred: 5_000_000, backend: 'sendfile', right: true });
});

test('a socket in blocking mode', async () => {
  const file = testFile(300_000);
  const { sink, peer } = await link({ kind: 'unix' });
  const { _handle: handle } = sink as unknown as { _handle: { setBlocking(on: boolean): number } };
  expect(handle.setBlocking(true)).toBe(0);
  const received = receive(peer);
  const result = await transfer(file.path, sink);
  expect(result).toMatchObject({ backend: 'stream', fallback: { code: 'SINK_BLOCKING', at: 0 } });
  handle.setBlocking(false);
  sink.end();
  expect((await received).equals(file.content)).toBe(true);
});

test('a socket that is not connected, and never will be', async () => {
  const sink = new net.Socket();
  sink.on('error', () => {});
  const error = await transfer(testFile(10).path, sink).catch((error) => error);
  expect(error).toMatchObject({ name: 'TransferError', backend: 'stream', transferred: 0 });
});

test('a socket whose connection fails', async () => {
  const { sink: probe } = await link();
  const port = (probe.address() as net.AddressInfo).port;
  probe.destroy();
  await new Promise((resolve) => setTimeout(resolve, 10));
  const sink = net.connect(port, '127.0.0.1');
  sink.on('error', () => {});
  const error = await transfer(testFile(10).path, sink).catch((error) => error);
  expect(error).toMatchObject({ code: 'ECONNREFUSED', syscall: 'connect', transferred: 0 });
});

test('a socket with a _write of its own', async () => {
  const file = testFile(100_000);
  class Counting extends net.Socket {
    counted = 0;
    override _write(chunk: Buffer, encoding: BufferEncoding, done: () => void) {
      this.counted += chunk.length;
      super._write(chunk, encoding, done);
    }
  }
  const server = net.createServer((peer) => peer.resume()).listen(0);
  const sink = new Counting();
  sink.connect((server.address() as net.AddressInfo).port);
  const result = await transfer(file.path, sink, { endSink: true });
  expect(result).toMatchObject({ backend: 'stream', fallback: { code: 'SINK_OVERRIDDEN' } });
  expect(sink.counted).toBe(100_000);
  server.close();
});
