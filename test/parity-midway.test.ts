// What changes who reads a createReadStream while it is stuck half-way to a socket.
import * as fs from 'node:fs';
import { PassThrough, Readable } from 'node:stream';
import { describe, expect, test } from 'vitest';
import { pattern, testFile } from './helpers/files';
import {
  asciiFile,
  closed,
  descriptorsOf,
  fellBack,
  LARGE,
  MIB,
  Run,
  type Stuck,
  sameAsFs,
  sendfile,
  stuckHalfWay,
  switched,
  type Went,
  type Wire,
  wentOf,
  wholeOf,
  wireTo,
} from './helpers/parity';
import { until } from './helpers/process';
import { receive, receiveBytes } from './helpers/sockets';

const readers = fellBack('READERS');

/** Notes that bytes are the file's last ones, and neither none nor all of them. */
function noteTail(run: Run, name: string, bytes: Buffer, { content }: { content: Buffer }): void {
  const tail = content.subarray(content.length - bytes.length);
  const some = bytes.length > 0 && bytes.length < content.length;
  run.note(name, { some, right: some && bytes.equals(tail) });
}

/** The other end is connected by then: what is stuck goes on meanwhile. */
type Act = (stuck: Stuck, run: Run, other: Wire) => void | Promise<void>;

describe('the sink gets the whole file', () => {
  const cases: [string, Went | 'either way', Act][] = [
    ['when nothing happens', sendfile, () => {}],
    [
      "and a late 'data' listener the rest",
      switched,
      async ({ stream, file }, run) => {
        const chunks: Buffer[] = [];
        stream.on('data', (chunk) => chunks.push(chunk as Buffer));
        await closed(stream);
        noteTail(run, 'heard', Buffer.concat(chunks), file);
      },
    ],
    [
      "and a 'data' listener that goes again hears some",
      switched,
      async ({ stream, file }, run) => {
        const heard = await new Promise<Buffer>((resolve) => {
          const listener = (chunk: Buffer | string) => {
            stream.off('data', listener);
            resolve(chunk as Buffer);
          };
          stream.on('data', listener);
        });
        run.note('heard a piece of the file', file.content.includes(heard) && heard.length > 0);
      },
    ],
    [
      "and a 'data' listener that goes at once nothing",
      sendfile,
      ({ stream }, run) => {
        const listener = () => run.note('heard', true);
        stream.on('data', listener).off('data', listener);
      },
    ],
    [
      "and a late 'readable' listener stops it, until it is gone",
      sendfile,
      async ({ stream }) => {
        const listener = () => {};
        stream.on('readable', listener);
        await new Promise(setImmediate);
        stream.off('readable', listener);
        await new Promise(setImmediate);
        stream.resume();
      },
    ],
    [
      'and a second pipe the rest',
      switched,
      async ({ stream, file }, run) => {
        const other = run.watch(new PassThrough(), 'other');
        stream.pipe(other);
        noteTail(run, 'other', await receive(other), file);
      },
    ],
    [
      'and a second socket the rest',
      switched,
      async ({ stream, file }, run, { sink, peer }) => {
        stream.pipe(run.watch(sink, 'other'));
        noteTail(run, 'other', await receive(peer), file);
        await closed(sink);
      },
    ],
    [
      'and a second pipe that is taken off at once nothing',
      sendfile,
      ({ stream }, run) => {
        const other = new PassThrough();
        stream.pipe(other);
        stream.unpipe(other);
        other.once('data', () => run.note('other', 'got some'));
        run.note('pipes', (stream as unknown as Piped)._readableState.pipes.length);
      },
    ],
    [
      'after unpipe and pipe at once',
      sendfile,
      ({ stream, sink }) => {
        stream.unpipe(sink);
        stream.pipe(sink);
      },
    ],
    [
      'after unpipe, and pipe some turns later',
      'either way',
      async ({ stream, sink }) => {
        stream.unpipe(sink);
        for (let turn = 0; turn < 5; turn++) await new Promise(setImmediate);
        stream.pipe(sink);
      },
    ],
    [
      'after unpipe() of all, and pipe some turns later',
      'either way',
      async ({ stream, sink }) => {
        stream.unpipe();
        for (let turn = 0; turn < 5; turn++) await new Promise(setImmediate);
        stream.pipe(sink);
      },
    ],
    [
      'after pause and resume at once',
      sendfile,
      ({ stream }) => {
        stream.pause();
        stream.resume();
      },
    ],
    [
      'after pause, and resume some turns later',
      'either way',
      async ({ stream }, run) => {
        stream.pause();
        for (let turn = 0; turn < 5; turn++) await new Promise(setImmediate);
        run.note('paused', stream.isPaused());
        stream.resume();
      },
    ],
    ['after setEncoding', switched, ({ stream }) => void stream.setEncoding('utf8')],
  ];
  test.each(cases)('%s', async (_name, went, act) => {
    const file = asciiFile(LARGE);
    await sameAsFs(async (run) => {
      const stuck = await stuckHalfWay(run, {}, undefined, 'unix', file);
      const acted = act(stuck, run, await wireTo('tcp', 0));
      run.noteBytes('wire', await wholeOf(stuck), file.content);
      await acted;
      await Promise.all([closed(stuck.stream), closed(stuck.sink)]);
      run.note('bytesRead', stuck.stream.bytesRead);
      run.note('left open', descriptorsOf(file.path));
      return stuck.stream;
    }, went);
  });
});

interface Piped {
  _readableState: { pipes: unknown[] };
}

test('a range that is interrupted ends where it should', async () => {
  const options = { start: 1000, end: 2 * MIB };
  const file = testFile(LARGE);
  const wanted = file.content.subarray(1000, 2 * MIB + 1);
  await sameAsFs(async (run) => {
    const stuck = await stuckHalfWay(run, options, undefined, 'unix', file);
    const chunks: Buffer[] = [];
    stuck.stream.on('data', (chunk) => chunks.push(chunk as Buffer));
    run.noteBytes('wire', await wholeOf(stuck), wanted);
    await closed(stuck.stream);
    noteTail(run, 'heard', Buffer.concat(chunks), { content: wanted });
    return stuck.stream;
  }, switched);
});

test.each([{}, { start: 5 }])('a descriptor that is left open, %j, interrupted', async (range) => {
  const file = testFile(LARGE);
  await sameAsFs(async (run) => {
    const fd = fs.openSync(file.path, 'r');
    const options = { ...range, fd, autoClose: false };
    const stuck = await stuckHalfWay(run, options, undefined, 'unix', file);
    stuck.stream.unpipe(stuck.sink);
    stuck.stream.pipe(stuck.sink);
    run.noteBytes('wire', await wholeOf(stuck), file.content.subarray('start' in range ? 5 : 0));
    run.note('behind', fs.readSync(fd, Buffer.alloc(10), 0, 10, null));
    fs.closeSync(fd);
    return stuck.stream;
  }, sendfile);
});

test('moved on to another socket: the two together get the file', async () => {
  const file = testFile(LARGE);
  await sameAsFs(async (run) => {
    const stuck = await stuckHalfWay(run, {}, undefined, 'unix', file);
    const { stream, sink } = stuck;
    const { sink: other, peer } = await wireTo('tcp', 0);
    stream.unpipe(sink);
    stream.pipe(run.watch(other, 'other'));
    const rest = await receive(peer);
    run.note('ended', sink.writableEnded);
    sink.end();
    run.noteBytes('wires', Buffer.concat([await wholeOf(stuck), rest]), file.content);
    await Promise.all([closed(stream), closed(other)]);
    return stream;
  }, sendfile);
});

/** What takes the rest, after the sink has got the beginning. */
const takers: [string, (stream: fs.ReadStream, unpipe: () => void) => Promise<Buffer[]>][] = [
  [
    "a 'data' listener, and unpipe at once: it flows on to the listener",
    async (stream, unpipe) => {
      const chunks: Buffer[] = [];
      stream.on('data', (chunk) => chunks.push(chunk as Buffer));
      unpipe();
      await closed(stream);
      return chunks;
    },
  ],
  [
    'for await after unpipe',
    async (stream, unpipe) => {
      unpipe();
      const chunks: Buffer[] = [];
      for await (const chunk of stream) chunks.push(chunk);
      return chunks;
    },
  ],
  [
    'Readable.toWeb after unpipe',
    async (stream, unpipe) => {
      unpipe();
      const chunks: Buffer[] = [];
      for await (const chunk of Readable.toWeb(stream)) chunks.push(Buffer.from(chunk));
      return chunks;
    },
  ],
];

test.each(takers)('%s', async (_name, take) => {
  const file = testFile(LARGE);
  await sameAsFs(async (run) => {
    const stuck = await stuckHalfWay(run, {}, undefined, 'unix', file);
    const { stream, sink } = stuck;
    const chunks = await take(stream, () => stream.unpipe(sink));
    sink.end();
    run.noteBytes('both', Buffer.concat([await wholeOf(stuck), ...chunks]), file.content);
    return stream;
  }, switched);
});

test('writes to the sink in between come between', async () => {
  const file = testFile(LARGE);
  await sameAsFs(async (run) => {
    const stuck = await stuckHalfWay(run, {}, undefined, 'unix', file);
    stuck.sink.write('<between>');
    const wire = await wholeOf(stuck);
    const at = wire.indexOf('<between>');
    run.note('between', at >= stuck.taken.length);
    const without = Buffer.concat([wire.subarray(0, at), wire.subarray(at + 9)]);
    run.noteBytes('without it', without, file.content);
    await closed(stuck.stream);
    return stuck.stream;
  }, sendfile);
});

test('sink.end() in between: the file goes to its end first, which with fs it does not', async () => {
  const run = new Run('native');
  const stuck = await stuckHalfWay(run);
  stuck.sink.end('last');
  const wire = await wholeOf(stuck);
  expect(wire.equals(Buffer.concat([stuck.file.content, Buffer.from('last')]))).toBe(true);
  await run.settle();
  expect(wentOf(stuck.stream)).toEqual(sendfile);
});

test('bytesRead grows, and says at the end how many there were', async () => {
  const file = testFile(LARGE);
  await sameAsFs(async (run) => {
    const stuck = await stuckHalfWay(run, {}, undefined, 'unix', file);
    const { stream, peer } = stuck;
    const counts = [0, stream.bytesRead];
    let { taken } = stuck;
    while (taken.length < 2 * MIB) {
      taken = Buffer.concat([taken, await receiveBytes(peer, 200_000)]);
      counts.push(stream.bytesRead);
      // A moment later at most: what the kernel has moved is counted when its call returns.
      await until(() => stream.bytesRead >= taken.length, 'bytesRead has come as far');
    }
    run.note(
      'sorted',
      counts.every((count, i) => i === 0 || count >= (counts[i - 1] as number)),
    );
    run.note(
      'half-way',
      counts.some((count) => count > 0 && count < LARGE),
    );
    const rest = await receive(peer);
    run.noteBytes('wire', Buffer.concat([taken, rest]), file.content);
    await closed(stream);
    run.note('bytesRead', stream.bytesRead);
    return stream;
  }, sendfile);
});

describe('a file that changes', () => {
  test('grows while it is read: what has been appended is sent, too', async () => {
    const appended = pattern(MIB, 7);
    await sameAsFs(async (run) => {
      const file = testFile(LARGE);
      const stuck = await stuckHalfWay(run, {}, undefined, 'unix', file);
      fs.appendFileSync(file.path, appended);
      const wanted = Buffer.concat([file.content, appended]);
      run.noteBytes('wire', await wholeOf(stuck), wanted);
      await closed(stuck.stream);
      return stuck.stream;
    }, sendfile);
  });

  test('grows again when its end has been reached, and is read to the end it had', async () => {
    await sameAsFs(
      async (run) => {
        const file = testFile(100);
        const { sink, peer } = await wireTo('tcp', 0);
        const stream = run.open(file.path);
        stream.once('end', () => fs.appendFileSync(file.path, 'late'));
        stream.pipe(sink);
        run.noteBytes('wire', await receive(peer), file.content);
        return stream;
      },
      { backend: 'read' },
    );
  });

  test('shrinks while it is read: it ends without an error', async () => {
    await sameAsFs(async (run) => {
      const file = testFile(LARGE);
      const stuck = await stuckHalfWay(run, {}, undefined, 'unix', file);
      fs.truncateSync(file.path, 2 * MIB);
      run.noteBytes('wire', await wholeOf(stuck), file.content.subarray(0, 2 * MIB));
      await closed(stuck.stream);
      return stuck.stream;
    }, sendfile);
  });

  test('is removed while it is read', async () => {
    await sameAsFs(async (run) => {
      const file = testFile(LARGE);
      const stuck = await stuckHalfWay(run, {}, undefined, 'unix', file);
      fs.unlinkSync(file.path);
      run.noteBytes('wire', await wholeOf(stuck), file.content);
      await closed(stuck.stream);
      return stuck.stream;
    }, sendfile);
  });
});

test('highWaterMark of 1 MiB, a late listener', async () => {
  const file = testFile(LARGE);
  await sameAsFs(async (run) => {
    const stuck = await stuckHalfWay(run, { highWaterMark: MIB }, undefined, 'unix', file);
    const lengths: number[] = [];
    stuck.stream.on('data', (chunk) => lengths.push(chunk.length));
    run.noteBytes('wire', await wholeOf(stuck), file.content);
    await closed(stuck.stream);
    run.note(
      'chunks of up to 1 MiB',
      lengths.every((length) => length <= MIB),
    );
    return stuck.stream;
  }, switched);
});

test("a 'data' listener before the pipe that goes in mid-transfer: the rest goes natively", async () => {
  const file = testFile(LARGE);
  await sameAsFs(async (run) => {
    let heard = 0;
    const listener = (chunk: Buffer | string) => {
      heard += chunk.length;
    };
    const stuck = await stuckHalfWay(
      run,
      {},
      (stream, sink) => {
        stream.on('data', listener);
        stream.pipe(sink);
      },
      'unix',
      file,
    );
    stuck.stream.off('data', listener);
    run.noteBytes('wire', await wholeOf(stuck), file.content);
    run.note('heard some', heard > 0 && heard < LARGE);
    await closed(stuck.stream);
    return stuck.stream;
  }, readers);
});
