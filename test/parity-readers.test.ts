// The ways to read a createReadStream, from its beginning and from mid-transfer on.
import { once } from 'node:events';
import type * as fs from 'node:fs';
import { PassThrough, pipeline, Readable, Transform, Writable } from 'node:stream';
import { pipeline as pipelinePromise } from 'node:stream/promises';
import { describe, test } from 'vitest';
import { testFile } from './helpers/files';
import {
  closed,
  fellBack,
  type Run,
  sameAsFs,
  sendfile,
  type Went,
  wholeWire,
  wireTo,
} from './helpers/parity';

const readers = fellBack('READERS');
const notASocket = fellBack('SINK_TYPE');

/** Reads a stream that is not piped, to its end. */
type Read = (stream: fs.ReadStream, run: Run) => Promise<Buffer>;

const concat = async (stream: AsyncIterable<unknown>) => {
  const chunks: Buffer[] = [];
  for await (const chunk of stream) chunks.push(Buffer.from(chunk as Buffer));
  return Buffer.concat(chunks);
};

const counted = () => {
  const chunks: Buffer[] = [];
  const sink = new Writable({
    highWaterMark: 1000,
    write(chunk, _encoding, done) {
      chunks.push(chunk);
      setImmediate(done);
    },
  });
  return { sink, chunks };
};

const ordinaryReads: [string, Went, Read][] = [
  ['for await', readers, concat],
  [
    "'data'",
    readers,
    async (stream) => {
      const chunks: Buffer[] = [];
      stream.on('data', (chunk) => chunks.push(chunk as Buffer));
      await closed(stream);
      return Buffer.concat(chunks);
    },
  ],
  [
    "'readable'",
    readers,
    async (stream) => {
      const chunks: Buffer[] = [];
      stream.on('readable', () => {
        for (let chunk = stream.read(1000); chunk; chunk = stream.read(1000)) chunks.push(chunk);
        const rest: Buffer | null = stream.read();
        if (rest) chunks.push(rest);
      });
      await closed(stream);
      return Buffer.concat(chunks);
    },
  ],
  ['Readable.toWeb', readers, (stream) => concat(Readable.toWeb(stream))],
  ['compose', notASocket, (stream) => concat(stream.compose(new PassThrough()))],
  ['an operator', readers, (stream) => concat(stream.map((chunk: Buffer) => chunk))],
  ['a PassThrough', notASocket, (stream) => concat(stream.pipe(new PassThrough()))],
  [
    'a slow Writable',
    notASocket,
    async (stream, run) => {
      const { sink, chunks } = counted();
      stream.pipe(run.watch(sink));
      await once(sink, 'close');
      run.note(
        'lengths',
        chunks.map(({ length }) => length),
      );
      return Buffer.concat(chunks);
    },
  ],
];

describe('what is no socket', () => {
  test.each(ordinaryReads)('%s', async (_name, went, read) => {
    const file = testFile(300_000);
    await sameAsFs(async (run) => {
      const stream = run.open(file.path);
      run.noteBytes('bytes', await read(stream, run), file.content);
      await closed(stream);
      return stream;
    }, went);
  });
});

describe('resume() alone reads it to nowhere', () => {
  test('as with fs', async () => {
    const file = testFile(300_000);
    await sameAsFs(async (run) => {
      const stream = run.open(file.path);
      stream.resume();
      await closed(stream);
      return stream;
    }, readers);
  });
});

/** Has a stream read by a socket, and whatever else. */
type Send = (stream: fs.ReadStream, sink: Writable, run: Run) => void | Promise<void>;

const upperCase = () =>
  new Transform({
    transform: (chunk, _encoding, done) =>
      done(
        null,
        chunk.map((b: number) => b ^ 32),
      ),
  });

const sends: [string, Went, Send][] = [
  ['pipe', sendfile, (stream, sink) => void stream.pipe(sink)],
  [
    'pipe with { end: false }',
    sendfile,
    async (stream, sink, run) => {
      stream.pipe(sink, { end: false });
      await closed(stream);
      run.note('ended', sink.writableEnded);
      sink.end('more');
    },
  ],
  [
    'pipe after other writes, and others after it',
    sendfile,
    async (stream, sink) => {
      sink.write('before');
      stream.pipe(sink, { end: false });
      sink.write('between');
      await closed(stream);
      sink.end('after');
    },
  ],
  [
    'pipe while corked',
    sendfile,
    (stream, sink) => {
      sink.cork();
      sink.write('before');
      stream.pipe(sink);
      process.nextTick(() => sink.uncork());
    },
  ],
  [
    'pipe in a later turn',
    sendfile,
    (stream, sink) => void setImmediate(() => setImmediate(() => stream.pipe(sink))),
  ],
  ["pipe at 'open'", sendfile, (stream, sink) => void stream.once('open', () => stream.pipe(sink))],
  [
    'pipeline',
    sendfile,
    (stream, sink, run) => {
      pipeline(stream, sink, (error) => run.note('called back with', error));
    },
  ],
  [
    'stream/promises',
    sendfile,
    async (stream, sink, run) => run.note('resolved', await pipelinePromise(stream, sink)),
  ],
  [
    'stream/promises with { end: false }',
    sendfile,
    async (stream, sink) => {
      await pipelinePromise(stream, sink, { end: false });
      sink.end('more');
    },
  ],
  [
    'pipeline with a transform between',
    notASocket,
    (stream, sink, run) => {
      pipeline(stream, upperCase(), sink, (error) => run.note('called back with', error));
    },
  ],
  [
    'pipe through a transform',
    notASocket,
    (stream, sink) => void stream.pipe(upperCase()).pipe(sink),
  ],
  [
    'pipe to two at once',
    readers,
    (stream, sink, run) => {
      const { sink: other, chunks } = counted();
      run.watch(other, 'other');
      other.once('close', () => run.note('other', Buffer.concat(chunks).length));
      stream.pipe(sink);
      stream.pipe(other);
    },
  ],
  [
    "pipe beside a 'data' listener",
    readers,
    (stream, sink, run) => {
      let heard = 0;
      stream.on('data', (chunk) => {
        heard += chunk.length;
      });
      stream.once('end', () => run.note('heard', heard));
      stream.pipe(sink);
    },
  ],
  [
    "pipe beside a 'readable' listener",
    readers,
    (stream, sink) => {
      stream.on('readable', () => stream.read());
      stream.pipe(sink);
    },
  ],
  [
    'unpipe and pipe at once',
    sendfile,
    (stream, sink) => {
      stream.pipe(sink);
      stream.unpipe(sink).pipe(sink);
    },
  ],
  [
    'pause and resume at once',
    sendfile,
    (stream, sink) => {
      stream.pipe(sink);
      stream.pause();
      stream.resume();
    },
  ],
  [
    'setEncoding at once',
    readers,
    (stream, sink) => {
      stream.pipe(sink);
      stream.setEncoding('base64');
    },
  ],
  [
    'a piece read by hand first',
    readers,
    async (stream, sink, run) => {
      await once(stream, 'readable');
      run.note('first', (stream.read(10) as Buffer).toString('hex'));
      stream.pipe(sink);
    },
  ],
  [
    'a piece put back first',
    sendfile,
    (stream, sink) => {
      stream.unshift(Buffer.from('put back'));
      stream.pipe(sink);
    },
  ],
];

describe.each(['tcp', 'unix', 'chunked response'] as const)('a sink of kind %s', (kind) => {
  test.each(sends)('%s', async (_name, went, send) => {
    const file = testFile(300_000);
    await sameAsFs(async (run) => {
      const { sink, peer } = await wireTo(kind, 0);
      run.watch(sink);
      const stream = run.open(file.path);
      const [wire] = await Promise.all([wholeWire(peer), send(stream, sink, run)]);
      run.noteHash('wire', wire);
      await Promise.all([closed(stream), closed(sink)]);
      return stream;
    }, went);
  });
});
