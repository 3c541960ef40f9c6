// Pipes at either end, and every pair of ends: sockets, pipes, children, FIFOs, files.
import { spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import * as fs from 'node:fs';
import type * as net from 'node:net';
import * as path from 'node:path';
import { describe, expect, onTestFinished, test } from 'vitest';
import { type Segment, type TransferResult, transfer } from 'zerocopy';
import { backends, expectResult, type TestedBackend } from './helpers/backends';
import { pattern, scratchFolder, testFile } from './helpers/files';
import { openDescriptors, sleep, until } from './helpers/process';
import { link, receive, receiveBytes } from './helpers/sockets';
import {
  descriptorsBack,
  expectSpliced,
  expectWhole,
  failed,
  fifo,
  fileTarget,
  pipeEnds,
  restOf,
  sourceLink,
} from './helpers/sources';

const MIB = 1024 * 1024;
const sizes = [0, 1, 4097, 128 * 1024 + 16, 3 * MIB + 3];

/** What a transfer reads from: all of `content`, and then the end. */
const sources = {
  'TCP socket': (content: Buffer) => fed('tcp', content),
  'Unix socket': (content: Buffer) => fed('unix', content),
  pipe: async (content: Buffer) => {
    const { source, writer } = pipeEnds();
    writer.end(content);
    return source;
  },
  "child's stdout": async (content: Buffer) => {
    const file = testFile(content.length);
    const child = spawn('cat', [file.path], { stdio: ['ignore', 'pipe', 'inherit'] });
    return child.stdout as net.Socket;
  },
  'FIFO, by its path': async (content: Buffer) => {
    const name = fifo();
    const file = testFile(content.length);
    const child = spawn('sh', ['-c', 'cat "$1" > "$2"', 'sh', file.path, name]);
    onTestFinished(() => void child.kill());
    return name;
  },
};

async function fed(kind: 'tcp' | 'unix', content: Buffer) {
  const { source, writer } = await sourceLink({ kind });
  writer.end(content);
  return source;
}

/** What a transfer writes to, and all that has arrived there once it has been ended. */
const sinks = {
  path: async () => {
    const { sink, path } = await fileTarget('path');
    return { sink, arrived: async () => fs.readFileSync(path) };
  },
  fd: async () => {
    const { sink, path } = await fileTarget('fd');
    return { sink, arrived: async () => fs.readFileSync(path) };
  },
  FileHandle: async () => {
    const { sink, path } = await fileTarget('FileHandle');
    return { sink, arrived: async () => fs.readFileSync(path) };
  },
  'TCP socket': () => into('tcp'),
  'Unix socket': () => into('unix'),
  pipe: async () => {
    const { source, writer } = pipeEnds();
    return { sink: writer, arrived: collected(source, writer) };
  },
  "child's stdin": async () => {
    const child = spawn('cat', { stdio: ['pipe', 'pipe', 'inherit'] });
    const sink = child.stdin as net.Socket;
    return { sink, arrived: collected(child.stdout as net.Socket, sink) };
  },
};

async function into(kind: 'tcp' | 'unix') {
  const { sink, peer } = await link({ kind });
  return { sink, arrived: collected(peer, sink) };
}

function collected(peer: net.Socket, sink: net.Socket) {
  const received = receive(peer);
  return async () => {
    sink.end();
    return await received;
  };
}

type SourceName = keyof typeof sources;
type SinkName = keyof typeof sinks;
const sourceNames = Object.keys(sources) as SourceName[];
const sinkNames = Object.keys(sinks) as SinkName[];

describe.each(backends)('%s', (backend) => {
  describe.each(sourceNames)('%s', (sourceName) => {
    describe.each(sinkNames)('→ %s', (sinkName) => {
      test.each(sizes)('%d bytes', async (size) => {
        const content = pattern(size);
        const { sink, arrived } = await sinks[sinkName]();
        const source = await sources[sourceName](content);
        expectSpliced(await transfer(source, sink, { backend }), backend, size);
        expect((await arrived()).equals(content)).toBe(true);
      });

      test('by length', async () => {
        const content = pattern(300_001);
        const { sink, arrived } = await sinks[sinkName]();
        const source = await sources[sourceName](content);
        const options = { backend, length: 200_001 };
        const result = await transfer(source, sink, options);
        // At once: when a child ends, Node lets its stdout flow, whether anybody reads it or not.
        // Of a FIFO nobody has what follows.
        const rest = typeof source === 'string' ? undefined : receive(source);
        expectSpliced(result, backend, 200_001);
        expect((await arrived()).equals(content.subarray(0, 200_001))).toBe(true);
        if (rest) expect((await rest).equals(content.subarray(200_001))).toBe(true);
      });
    });
  });

  /** Files go to sockets by sendfile(2), to pipes by splice(2), and a few bytes by read(2). */
  function expectSent(result: TransferResult, to: SinkName, transferred: number) {
    if (backend === 'stream' || to !== 'pipe') return expectResult(result, backend, transferred);
    const small = transferred > 0 && transferred <= 24 * 1024;
    expect(result).toEqual({ transferred, backend: small ? 'read' : 'splice' });
  }

  describe.each(['TCP socket', 'Unix socket', 'pipe', "child's stdin"] as const)(
    'file → %s',
    (sinkName) => {
      test.each(sizes)('%d bytes', async (size) => {
        const file = testFile(size);
        const { sink, arrived } = await sinks[sinkName]();
        expectSent(await transfer(file.path, sink, { backend }), sinkName, size);
        expect((await arrived()).equals(file.content)).toBe(true);
      });

      test('a range, among other writes', async () => {
        const file = testFile(500_000);
        const { sink, arrived } = await sinks[sinkName]();
        const socket = sink as net.Socket;
        socket.write('before ');
        const options = { backend, offset: 4097, length: 300_001 };
        const first = transfer(file.path, sink, options);
        socket.write(' between ');
        const second = transfer(file.path, sink, { backend, offset: 499_000 });
        socket.write(' after');
        expectSent(await first, sinkName, 300_001);
        expectSent(await second, sinkName, 1000);
        const wanted = [
          Buffer.from('before '),
          file.content.subarray(4097, 304_098),
          Buffer.from(' between '),
          file.content.subarray(499_000),
          Buffer.from(' after'),
        ];
        expect((await arrived()).equals(Buffer.concat(wanted))).toBe(true);
      });

      test('a gather list with memory, small and large', async () => {
        const file = testFile(300_000);
        const large = pattern(700_001, 9);
        const list: Segment[] = [
          Buffer.from('head'),
          { file: file.path, length: 100_000 },
          new Uint8Array(0),
          large,
          { file: file.path, offset: 250_000 },
          { file: file.path, offset: 5, length: 0 },
          Buffer.from('tail'),
        ];
        const { sink, arrived } = await sinks[sinkName]();
        const wanted = Buffer.concat([
          Buffer.from('head'),
          file.content.subarray(0, 100_000),
          large,
          file.content.subarray(250_000),
          Buffer.from('tail'),
        ]);
        expectSent(await transfer(list, sink, { backend }), sinkName, wanted.length);
        expect((await arrived()).equals(wanted)).toBe(true);
      });
    },
  );

  describe('file → pipe', () => {
    test('a slow reader', async () => {
      const file = testFile(2 * MIB + 1);
      const { source, writer } = pipeEnds();
      const result = transfer(file.path, writer, { backend, endSink: true });
      const pieces: Buffer[] = [];
      for (let i = 0; i < 30; i++) {
        pieces.push(await receiveBytes(source, 1 + i * 1111));
        await sleep(10);
      }
      const rest = receive(source);
      expectSent(await result, 'pipe', 2 * MIB + 1);
      pieces.push(await rest);
      expect(Buffer.concat(pieces).equals(file.content)).toBe(true);
    });

    test('a gather list to a slow reader', async () => {
      const file = testFile(200_000);
      const memory = pattern(150_000, 3);
      const list: Segment[] = [];
      const wanted: Buffer[] = [];
      for (let i = 0; i < 5; i++) {
        list.push(memory, { file: file.path }, Buffer.from(`#${i}`));
        wanted.push(memory, file.content, Buffer.from(`#${i}`));
      }
      const { source, writer } = pipeEnds();
      const result = transfer(list, writer, { backend, endSink: true });
      await sleep(50);
      const pieces = [await receiveBytes(source, 100_001)];
      await sleep(50);
      const rest = receive(source);
      const bytes = Buffer.concat(wanted);
      expectSent(await result, 'pipe', bytes.length);
      expect(Buffer.concat([...pieces, await rest]).equals(bytes)).toBe(true);
    });

    test('a reader that closes', async () => {
      const file = testFile(4 * MIB);
      const { source, writer } = pipeEnds();
      const errors: NodeJS.ErrnoException[] = [];
      writer.on('error', (error) => errors.push(error));
      const result = failed(transfer(file.path, writer, { backend }));
      await receiveBytes(source, 100_000);
      source.destroy();
      const error = await result;
      expect(error).toMatchObject({ code: 'EPIPE', errno: -32 });
      expect(error.transferred).toBeLessThan(4 * MIB);
      await until(() => writer.closed, 'the sink has closed');
      expect(errors.map(({ code }) => code)).toEqual(['EPIPE']);
    });

    test('a reader that had closed before', async () => {
      const file = testFile(100_000);
      const { source, writer } = pipeEnds();
      source.destroy();
      await once(source, 'close');
      const error = await failed(transfer(file.path, writer, { backend }));
      expect(error).toMatchObject({ code: 'EPIPE', transferred: 0 });
    });

    test('an abort, with a reader that never reads', async () => {
      const file = testFile(4 * MIB);
      const { source, writer } = pipeEnds();
      const controller = new AbortController();
      const { signal } = controller;
      const result = failed(transfer(file.path, writer, { backend, signal }));
      await sleep(100);
      controller.abort();
      const error = await result;
      expect(error.code).toBe('ABORT_ERR');
      writer.end('!');
      const received = await receive(source);
      expect(received.subarray(-1).toString()).toBe('!');
      const body = received.subarray(0, -1);
      expect(body.equals(file.content.subarray(0, body.length))).toBe(true);
      if (backend === 'native') expect(body.length).toBe(error.transferred);
    });
  });

  describe.each(['pipe', 'Unix socket'] as const)('from and to a %s', (name) => {
    const ends = async () => {
      if (name === 'pipe') return { from: pipeEnds(), to: pipeEnds() };
      const from = await sourceLink({ kind: 'unix', buffers: 4096 });
      const to = await sourceLink({ kind: 'unix', side: 'connected', buffers: 4096 });
      return { from, to };
    };

    test('a slow reader', async () => {
      const content = pattern(2 * MIB + 7);
      const { from, to } = await ends();
      const result = transfer(from.source, to.writer, { backend, endSink: true });
      from.writer.end(content);
      const pieces: Buffer[] = [];
      for (let i = 0; i < 30; i++) {
        pieces.push(await receiveBytes(to.source, 1 + i * 1111));
        await sleep(10);
      }
      const rest = receive(to.source);
      expectSpliced(await result, backend, content.length);
      expect(Buffer.concat([...pieces, await rest]).equals(content)).toBe(true);
    });

    test('a reader that closes: what was on the way comes back', async () => {
      const content = pattern(2 * MIB);
      const { from, to } = await ends();
      const result = failed(transfer(from.source, to.writer, { backend }));
      from.writer.write(content);
      await receiveBytes(to.source, 50_000);
      await sleep(50);
      to.source.destroy();
      const error = await result;
      expect(['EPIPE', 'ECONNRESET']).toContain(error.code);
      expect(from.source.destroyed).toBe(false);
      expectWhole(error, await restOf(from), content);
    });

    test('a reader that closes while the source is idle', async () => {
      const { from, to } = await ends();
      const result = failed(transfer(from.source, to.writer, { backend }));
      from.writer.write('first');
      await receiveBytes(to.source, 5);
      to.source.destroy();
      await sleep(50);
      from.writer.write('second');
      const error = await result;
      expect(['EPIPE', 'ECONNRESET']).toContain(error.code);
      expect(error.transferred).toBe(5);
    });

    test('a writer that closes in the middle is an end', async () => {
      const content = pattern(300_000);
      const { from, to } = await ends();
      const received = receive(to.source);
      const result = transfer(from.source, to.writer, { backend, endSink: true });
      from.writer.write(content);
      await until(() => from.writer.writableLength === 0, 'all is written');
      await sleep(20);
      from.writer.destroy();
      expectSpliced(await result, backend, content.length);
      expect((await received).equals(content)).toBe(true);
    });

    test('an abort: what was on the way comes back, and both ends go on', async () => {
      const content = pattern(2 * MIB);
      const { from, to } = await ends();
      const controller = new AbortController();
      const { signal } = controller;
      const result = failed(transfer(from.source, to.writer, { backend, signal }));
      from.writer.write(content);
      await receiveBytes(to.source, 50_000);
      await sleep(50);
      controller.abort();
      const error = await result;
      expect(error.code).toBe('ABORT_ERR');
      expectWhole(error, await restOf(from), content);
      to.writer.end('!');
      expect((await receive(to.source)).subarray(-1).toString()).toBe('!');
    });
  });

  test('a chain: pipe → socket → pipe → file', async () => {
    const content = pattern(5 * MIB + 1);
    const [first, last] = [pipeEnds(), pipeEnds()];
    const { sink, peer } = await link();
    const target = await fileTarget('path');
    const results = [
      transfer(first.source, sink, { backend, endSink: true }),
      transfer(peer, last.writer, { backend, endSink: true }),
      transfer(last.source, target.sink, { backend }),
    ];
    first.writer.end(content);
    for (const result of await Promise.all(results)) {
      expectSpliced(result, backend, content.length);
    }
    expect(fs.readFileSync(target.path).equals(content)).toBe(true);
  });

  test('a child that filters: file → its stdin, its stdout → file', async () => {
    const file = testFile(6 * MIB + 11);
    const target = await fileTarget('path');
    const child = spawn('tr', ['\\000-\\377', '\\001-\\377\\000']);
    const [sent, received] = await Promise.all([
      transfer(file.path, child.stdin, { backend, endSink: true }),
      transfer(child.stdout, target.sink, { backend }),
    ]);
    expectResult(sent, backend, 6 * MIB + 11);
    expectSpliced(received, backend, 6 * MIB + 11);
    const wanted = file.content.map((byte) => (byte + 1) & 0xff);
    expect(fs.readFileSync(target.path).equals(wanted)).toBe(true);
  });

  test('a child that is killed in mid-transfer', async () => {
    const child = spawn('sh', ['-c', 'printf some; exec sleep 1000']);
    const target = await fileTarget('path', Buffer.alloc(0));
    const result = transfer(child.stdout, target.sink, { backend, sinkFlags: 'r+' });
    await until(() => fs.statSync(target.path).size === 4, 'its bytes are there');
    child.kill('SIGKILL');
    expectSpliced(await result, backend, 4);
  });

  describe('process.stdin', () => {
    const file = () => testFile(2 * MIB + 5);

    test('a pipe of a shell', async () => {
      const { path: source, content } = file();
      const { report, target } = await stdin(backend, 'cat "$1" | "$2" "$3" "$4" "$5"', source);
      expectSpliced(report, backend, content.length);
      expect(fs.readFileSync(target).equals(content)).toBe(true);
    });

    test('a pipe of a shell, by length: the rest is for whoever reads on', async () => {
      const { path: source, content } = file();
      const command = 'cat "$1" | "$2" "$3" "$4" "$5" 1000003';
      const { report, target } = await stdin(backend, command, source);
      const { rest, ...result } = report;
      expectSpliced(result, backend, 1_000_003);
      expect(fs.readFileSync(target).equals(content.subarray(0, 1_000_003))).toBe(true);
      expect(rest).toBe(createHash('sha256').update(content.subarray(1_000_003)).digest('hex'));
    });

    test('a socketpair', async () => {
      const { content } = file();
      const { report, target } = await stdin(backend, 'exec "$2" "$3" "$4" "$5"', '', content);
      expectSpliced(report, backend, content.length);
      expect(fs.readFileSync(target).equals(content)).toBe(true);
    });

    test('a file: that is a stream', async () => {
      const { path: source, content } = file();
      const command = 'exec "$2" "$3" "$4" "$5" < "$1"';
      const { report, target } = await stdin(
        backend === 'native' ? 'auto' : backend,
        command,
        source,
      );
      expect(report).toMatchObject({ transferred: content.length, backend: 'stream' });
      if (backend === 'native') expect(report.fallback?.code).toBe('SOURCE_STREAM');
      expect(fs.readFileSync(target).equals(content)).toBe(true);
    });
  });

  test('FIFOs: to the end of the last writer, and their descriptors are back', async () => {
    const round = async () => {
      const name = fifo();
      const target = await fileTarget('path');
      const result = transfer(name, target.sink, { backend });
      const writers = [fs.createWriteStream(name), fs.createWriteStream(name)];
      const [one, two] = writers;
      await Promise.all(writers.map((writer) => once(writer, 'open')));
      one?.end('one ');
      await once(one as fs.WriteStream, 'close');
      await sleep(20);
      two?.end('two');
      expectSpliced(await result, backend, 7);
      expect(fs.readFileSync(target.path, 'utf8')).toBe('one two');
    };
    await round();
    await sleep(50);
    const before = openDescriptors();
    await round();
    await descriptorsBack(before);
  });
});

interface StdinReport extends TransferResult {
  rest?: string;
}

/** Runs receive-stdin.mjs by a shell's command: $1 a file, $2 node, $3 the program, $4 and $5 its own. */
async function stdin(
  backend: TestedBackend | 'auto',
  command: string,
  source: string,
  input?: Buffer,
): Promise<{ report: StdinReport; target: string }> {
  const target = path.join(scratchFolder(), 'target');
  const program = path.resolve('test/programs/receive-stdin.mjs');
  const args = ['sh', source, process.execPath, program, target, backend];
  const child = spawn('sh', ['-c', command, ...args], { stdio: ['pipe', 'pipe', 'pipe'] });
  child.stdin.on('error', () => {});
  child.stdin.end(input);
  const [stdout, stderr] = await Promise.all([
    receive(child.stdout as net.Socket),
    receive(child.stderr as net.Socket),
    once(child, 'close'),
  ]);
  expect(stderr.toString()).toBe('');
  return { report: JSON.parse(stdout.toString()), target };
}
