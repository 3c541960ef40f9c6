// How bytes come: in many small segments, one at a time, with urgent ones among them.
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import * as fs from 'node:fs';
import type * as net from 'node:net';
import { describe, expect, onTestFinished, test } from 'vitest';
import { type TransferResult, transfer } from 'zerocopy';
import { backends } from './helpers/backends';
import { pattern } from './helpers/files';
import { sleep, until } from './helpers/process';
import { link, listen, receive, receiveBytes, type SocketKind, shrink } from './helpers/sockets';
import { cut, expectSpliced, fileTarget, kinds, pipeEnds, sourceLink } from './helpers/sources';

const SEGMENT = 100;
const SEGMENTS = 6000;

/** CPU seconds of this process, all its threads, while something goes on. */
async function cpuSeconds(during: () => Promise<unknown>): Promise<number> {
  const before = process.cpuUsage();
  await during();
  const { user, system } = process.cpuUsage(before);
  return (user + system) / 1e6;
}

type Ends = 'tcp' | 'unix' | 'pipe';

async function sourceOf(ends: Ends) {
  if (ends === 'pipe') return pipeEnds();
  return await sourceLink({ kind: ends });
}

async function sinkOf(ends: Ends): Promise<{ sink: net.Socket; peer: net.Socket }> {
  if (ends === 'pipe') {
    const { source, writer } = pipeEnds();
    return { sink: writer, peer: source };
  }
  if (ends === 'unix') return await link({ kind: ends, buffers: 4096 });
  const { sink, peer } = await link();
  // Not the peer's: TCP whose window has been cut off sends again what was dropped, and waits.
  shrink({ sink, peer: sink }, 4096);
  return { sink, peer };
}

const pairs: [Ends, Ends][] = [
  ['tcp', 'unix'],
  ['tcp', 'tcp'],
  ['tcp', 'pipe'],
  ['unix', 'unix'],
  ['unix', 'tcp'],
  ['unix', 'pipe'],
  ['pipe', 'unix'],
  ['pipe', 'pipe'],
];

describe.each(backends)('%s', (backend) => {
  // A pipe has 16 slots, and each segment takes one of them however short it is: the pipe fills long
  // before its bytes do.
  test('thousands of 100-byte segments, and sinks that stall for 2 s', async () => {
    const content = pattern(SEGMENT * SEGMENTS);
    const under = await Promise.all(
      pairs.map(async ([from, to]) => {
        const { source, writer } = await sourceOf(from);
        const { sink, peer } = await sinkOf(to);
        if (from === 'tcp') writer.setNoDelay(true);
        const result = transfer(source, sink, { backend, endSink: true });
        for (const piece of cut(content, [SEGMENT])) writer.write(piece);
        writer.end();
        return { pair: `${from} → ${to}`, peer, result };
      }),
    );
    await sleep(500); // all stand still by now
    // A thread that is woken again and again by what it can't use would take all of it.
    expect(await cpuSeconds(() => sleep(2000))).toBeLessThan(1);
    for (const { pair, peer, result } of under) {
      const start = await receiveBytes(peer, 1000);
      await sleep(20);
      const rest = receive(peer);
      expectSpliced(await result, backend, content.length);
      const same = Buffer.concat([start, await rest]).equals(content);
      expect({ pair, same }).toEqual({ pair, same: true });
    }
  });

  test.each(kinds)('%s → file: thousands of 100-byte segments, paced', async (kind) => {
    const content = pattern(SEGMENT * SEGMENTS);
    const { source, writer } = await sourceLink({ kind });
    const { sink, path } = await fileTarget('path');
    writer.setNoDelay(true);
    const result = transfer(source, sink, { backend });
    for (const [i, piece] of cut(content, [SEGMENT]).entries()) {
      writer.write(piece);
      if (i % 7 === 0) await new Promise((resolve) => setImmediate(resolve));
    }
    writer.end();
    expectSpliced(await result, backend, content.length);
    expect(fs.readFileSync(path).equals(content)).toBe(true);
  });

  test.each(pairs)(
    '%s → %s: 1 byte at a time, each there before the next is sent',
    async (from, to) => {
      const { source, writer } = await sourceOf(from);
      const { sink, peer } = await sinkOf(to);
      if (from === 'tcp') writer.setNoDelay(true);
      const result = transfer(source, sink, { backend, endSink: true });
      for (let i = 0; i < 300; i++) {
        writer.write(Buffer.of(i & 0xff));
        expect([...(await receiveBytes(peer, 1))]).toEqual([i & 0xff]);
      }
      writer.end();
      expectSpliced(await result, backend, 300);
      expect((await receive(peer)).length).toBe(0);
    },
  );

  test.each(kinds)('%s → file: 1 byte at a time', async (kind) => {
    const { source, writer } = await sourceLink({ kind });
    const { sink, path } = await fileTarget('path', Buffer.alloc(0));
    writer.setNoDelay(true);
    const result = transfer(source, sink, { backend, sinkFlags: 'r+' });
    for (let i = 1; i <= 100; i++) {
      writer.write(Buffer.of(i));
      await until(() => fs.statSync(path).size === i, `byte ${i} is there`);
    }
    writer.end();
    expectSpliced(await result, backend, 100);
    expect([...fs.readFileSync(path)]).toEqual(Array.from({ length: 100 }, (_, i) => i + 1));
  });

  test('a source that stands still for 2 s with a transfer waiting takes no CPU', async () => {
    const { source, writer } = await sourceLink();
    const { sink, peer } = await link();
    const result = transfer(source, sink, { backend, endSink: true });
    writer.write('some');
    await receiveBytes(peer, 4);
    expect(await cpuSeconds(() => sleep(2000))).toBeLessThan(1);
    writer.end('more');
    expectSpliced(await result, backend, 8);
  });

  // TCP keeps an urgent byte out of the stream (SO_OOBINLINE is off), and splice(2) doesn't pass it:
  // there it returns 0 as at the end, or EAGAIN while there is something to read. Node reads past it.
  describe('urgent bytes of TCP', () => {
    const asked = backend === 'native' ? 'auto' : backend;

    /** Whether the kernel could go on behind the urgent byte, or streams had to. */
    function expectCame({ backend, transferred, fallback }: TransferResult, wanted: number) {
      expect(transferred).toBe(wanted);
      if (asked === 'stream') expect(fallback?.code).toBe('REQUESTED');
      else if (backend === 'stream') expect(fallback?.code).toBe('UNSUPPORTED');
      else expect(backend).toBe('splice');
    }

    /** Steps: bytes to send; `!` to send one urgent byte; a number of milliseconds to wait. */
    type Step = Buffer | '!' | number;
    const part = (index: number, length = 50_000) => pattern(length, index + 1);

    test.each<[string, Step[]]>([
      ['in the middle', [part(0), 100, '!', 100, part(1)]],
      ['in the middle, all at once', [part(0), '!', part(1)]],
      ['at the beginning', ['!', 50, part(0)]],
      ['at the end', [part(0), '!']],
      ['at the end, late', [part(0), 100, '!', 100]],
      ['alone', ['!']],
    ])('%s: nothing is lost, nothing hangs, and it is no end', async (_where, steps) => {
      const { source } = await fromPython(steps);
      const { sink, path } = await fileTarget('path');
      const wanted = Buffer.concat(steps.filter((step) => Buffer.isBuffer(step)));
      expectCame(await transfer(source, sink, { backend: asked }), wanted.length);
      expect(fs.readFileSync(path).equals(wanted)).toBe(true);
    });

    test('many: where one comes before the last one was passed, that one is data', async () => {
      const isMark = (byte: number) => byte === '!'.charCodeAt(0);
      const parts = Array.from({ length: 40 }, (_, i) => part(i, 999).filter((b) => !isMark(b)));
      const { source } = await fromPython(parts.flatMap((part) => [Buffer.from(part), '!']));
      const { sink, path } = await fileTarget('path');
      const { transferred } = await transfer(source, sink, { backend: asked });
      const bytes = fs.readFileSync(path);
      expect(transferred).toBe(bytes.length);
      const data = bytes.filter((byte) => !isMark(byte));
      expect(Buffer.concat(parts).equals(data)).toBe(true);
      expect(bytes.filter(isMark).length).toBeLessThan(40);
    });

    test('before the transfer starts', async () => {
      const { source, sent } = await fromPython([part(0), '!', part(1)]);
      await sent;
      await sleep(50);
      const { sink, path } = await fileTarget('path');
      expectCame(await transfer(source, sink, { backend: asked }), 100_000);
      expect(fs.readFileSync(path).equals(Buffer.concat([part(0), part(1)]))).toBe(true);
    });

    test('what follows goes on at once, and no thread spins meanwhile', async () => {
      const steps = [part(0), 100, '!', 800, part(1), 1200, part(2)];
      const { source } = await fromPython(steps as Step[]);
      const { sink, peer } = await link();
      const result = transfer(source, sink, { backend: asked, endSink: true });
      const seconds = await cpuSeconds(async () => {
        expect((await receiveBytes(peer, 50_000)).equals(part(0))).toBe(true);
        expect((await receiveBytes(peer, 50_000)).equals(part(1))).toBe(true);
        // What follows is still to come: nothing of this waited for it.
        expect(source.bytesRead).toBeLessThanOrEqual(100_000);
        expect((await receiveBytes(peer, 50_000)).equals(part(2))).toBe(true);
      });
      expect(seconds).toBeLessThan(1);
      expectCame(await result, 150_000);
    });

    test('by length: the next byte is the next one', async () => {
      const { source } = await fromPython([part(0), 50, '!', 50, part(1)]);
      const { sink, path } = await fileTarget('fd');
      const wanted = Buffer.concat([part(0), part(1)]);
      for (const length of [49_999, 1, 1, 20_000]) {
        expectCame(await transfer(source, sink, { backend: asked, length }), length);
      }
      expect(fs.readFileSync(path).equals(wanted.subarray(0, 70_001))).toBe(true);
      expect((await receive(source)).equals(wanted.subarray(70_001))).toBe(true);
    });

    async function fromPython(steps: Step[]) {
      const { server, address } = await listen('tcp' satisfies SocketKind);
      const accepted = once(server, 'connection') as Promise<[net.Socket]>;
      const { port } = address as net.TcpNetConnectOpts;
      const script = `
import base64, json, socket, sys, time
s = socket.create_connection(('127.0.0.1', ${port}))
s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
for step in json.load(sys.stdin):
    if step == '!': s.send(b'!', socket.MSG_OOB)
    elif isinstance(step, str): s.sendall(base64.b64decode(step))
    else: time.sleep(step / 1000)
s.shutdown(socket.SHUT_WR)
print('sent', flush=True)
while s.recv(1000): pass
`;
      const python = spawn('python3', ['-c', script], { stdio: ['pipe', 'pipe', 'inherit'] });
      onTestFinished(() => void python.kill());
      const json = steps.map((step) => (Buffer.isBuffer(step) ? step.toString('base64') : step));
      const sent = once(python.stdout, 'data');
      python.stdin.end(JSON.stringify(json));
      const [source] = await accepted;
      onTestFinished(() => void source.destroy());
      source.once('end', () => source.end());
      return { source, sent };
    }
  });
});
