import * as fs from 'node:fs';
import { open } from 'node:fs/promises';
import * as net from 'node:net';
import { pathToFileURL } from 'node:url';
import { describe, expect, onTestFinished, test } from 'vitest';
import { transfer } from 'zerocopy';
import { backends, expectResult, sizes } from './helpers/backends';
import { scratchFolder, testFile } from './helpers/files';
import { withResolvers } from './helpers/process';
import { link, listen, receive, type SocketKind } from './helpers/sockets';

const kinds: SocketKind[] = ['tcp', 'unix'];

describe.each(backends)('%s', (backend) => {
  describe.each(kinds)('%s', (kind) => {
    test.each(sizes)('%d bytes arrive', async (size) => {
      const file = testFile(size);
      const { sink, peer } = await link({ kind });
      const received = receive(peer);
      const result = await transfer(file.path, sink, { backend });
      sink.end();
      expectResult(result, backend, size);
      expect((await received).equals(file.content)).toBe(true);
      expect(sink.bytesWritten).toBe(size);
    });

    // On TCP such windows cost 0.2 s for every few segments, whoever sends: so no large file there.
    const small =
      kind === 'tcp' ? [4097, 128 * 1024 + 16] : [...sizes.slice(0, -1), 1024 * 1024 + 3];
    test.each(small)('%d bytes arrive through 4 KiB buffers', async (size) => {
      const file = testFile(size);
      const { sink, peer } = await link({ kind, buffers: 4096 });
      const received = receive(peer);
      const result = await transfer(file.path, sink, { backend });
      sink.end();
      expect(result.transferred).toBe(size);
      expect(result.backend === 'stream').toBe(backend === 'stream');
      expect((await received).equals(file.content)).toBe(true);
    });
  });

  test('from a path, a URL, a descriptor and a FileHandle', async () => {
    const file = testFile(100_000);
    const fd = fs.openSync(file.path, 'r');
    onTestFinished(() => fs.closeSync(fd));
    const handle = await open(file.path);
    onTestFinished(() => handle.close());
    for (const source of [file.path, pathToFileURL(file.path), fd, handle]) {
      const { sink, peer } = await link();
      const received = receive(peer);
      const result = await transfer(source, sink, { backend });
      sink.end();
      expectResult(result, backend, 100_000);
      expect((await received).equals(file.content)).toBe(true);
    }
    // The descriptor's own position was neither used nor moved.
    expect(fs.readSync(fd, Buffer.alloc(3), 0, 3, null)).toBe(3);
    expect((await handle.read(Buffer.alloc(100_001), 0, 100_001, null)).bytesRead).toBe(100_000);
  });

  test('a path with characters beyond ASCII', async () => {
    const file = testFile(5000);
    const name = `${scratchFolder()}/wörld – 世界 🌍`;
    fs.renameSync(file.path, name);
    const { sink, peer } = await link();
    const received = receive(peer);
    expectResult(await transfer(name, sink, { backend }), backend, 5000);
    sink.end();
    expect((await received).equals(file.content)).toBe(true);
  });

  test.each(kinds)('to a %s socket that is still connecting', async (kind) => {
    const file = testFile(200_000);
    const received = withResolvers<Buffer>();
    const { server, address } = await listen(kind, (peer) => received.resolve(receive(peer)));
    const sink = net.connect(address);
    expect(sink.connecting).toBe(true);
    const results = [file.path, file.path].map((source) => transfer(source, sink, { backend }));
    sink.end('last');
    for (const result of await Promise.all(results)) expectResult(result, backend, 200_000);
    const wanted = Buffer.concat([file.content, file.content, Buffer.from('last')]);
    expect((await received.promise).equals(wanted)).toBe(true);
    server.close();
  });
});
