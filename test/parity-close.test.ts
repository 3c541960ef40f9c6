// Who destroys a createReadStream, its sink or the sink's peer, and when; and errors of the file.
import type * as fs from 'node:fs';
import type { Writable } from 'node:stream';
import { pipeline } from 'node:stream';
import { pipeline as pipelinePromise } from 'node:stream/promises';
import { describe, expect, onTestFinished, test } from 'vitest';
import { testFile } from './helpers/files';
import {
  closed,
  descriptorsOf,
  errorFacts,
  nothing,
  Run,
  type Seen,
  type Stuck,
  sameAsFs,
  sendfile,
  stuckHalfWay,
  switched,
  type Went,
  ways,
  wireTo,
} from './helpers/parity';
import { until, withResolvers } from './helpers/process';
import { receive } from './helpers/sockets';

/** The stages of a stream that is piped, at which something may be done to it. */
type Stage =
  | 'before the pipe'
  | 'before open'
  | "at 'open'"
  | 'mid-transfer'
  | "at 'end'"
  | 'when both are done';
const stages: Stage[] = [
  'before the pipe',
  'before open',
  "at 'open'",
  'mid-transfer',
  "at 'end'",
  'when both are done',
];

type Send = (stream: fs.ReadStream, sink: Writable, run: Run) => void;
const pipe: Send = (stream, sink) => void stream.pipe(sink);
const byPipeline: Send = (stream, sink, run) => {
  try {
    pipeline(stream, sink, (error) => run.note('called back with', error && cancelled(error)));
  } catch (error) {
    // Since Node 24, of a sink that is destroyed already.
    run.note('thrown', errorFacts(error));
    stream.destroy();
  }
};

/**
 * Since Node 22 a write that the sink's destroy() cancels may fail the pipeline before 'close' does.
 * Ours has none in hand then.
 */
function cancelled(error: unknown) {
  const facts = errorFacts(error);
  const { code } = facts;
  return code === 'ECANCELED' || code === 'ERR_STREAM_PREMATURE_CLOSE' ? 'cancelled' : facts;
}

/** Does something to a stream and its sink at a stage, and notes what arrives. */
async function actAt(
  run: Run,
  stage: Stage,
  send: Send,
  act: (stream: fs.ReadStream, sink: Writable) => void,
): Promise<Stuck> {
  if (stage === 'mid-transfer') {
    const stuck = await stuckHalfWay(run, {}, (stream, sink) => send(stream, sink, run));
    act(stuck.stream, stuck.sink);
    return stuck;
  }
  const file = testFile(100_000);
  const { sink, peer } = (await wireTo('unix', 0)) as Stuck;
  const stream = run.open(file.path);
  run.watch(sink);
  if (stage === 'before the pipe') act(stream, sink);
  send(stream, sink, run);
  if (stage === 'before open') act(stream, sink);
  if (stage === "at 'open'") stream.once('open', () => act(stream, sink));
  if (stage === "at 'end'") stream.once('end', () => act(stream, sink));
  if (stage === 'when both are done') {
    const received = receive(peer);
    await Promise.all([closed(stream), closed(sink)]);
    act(stream, sink);
    run.note('received', (await received).equals(file.content));
  }
  return { file, stream, sink, peer, taken: Buffer.alloc(0) };
}

const failure = () => Object.assign(new Error('mine'), { code: 'MINE' });
const wentAt = (stage: Stage): Went =>
  stage === 'mid-transfer' || stage === "at 'end'" || stage === 'when both are done'
    ? sendfile
    : nothing;

describe.each([
  ['pipe', pipe],
  ['pipeline', byPipeline],
])('the stream is destroyed, %s', (_name, send) => {
  const acts: [string, (run: Run, stream: fs.ReadStream) => void][] = [
    ['destroy()', (_run, stream) => void stream.destroy()],
    ['destroy(error)', (_run, stream) => void stream.destroy(failure())],
    ['destroy() and destroy(error)', (_run, stream) => void stream.destroy().destroy(failure())],
    ['close()', (_run, stream) => stream.close()],
    [
      'close(callback)',
      (run, stream) => stream.close((error) => run.note('closed', error && errorFacts(error))),
    ],
  ];
  // At the end of a pipeline the socket's shutdown and the file's close race.
  const decided = stages.filter((stage) => send === pipe || stage !== "at 'end'");
  describe.each(acts)('by %s', (_act, act) => {
    test.each(decided)('%s', async (stage) => {
      await sameAsFs(async (run) => {
        const { stream, sink, peer, file } = await actAt(run, stage, send, (stream) =>
          act(run, stream),
        );
        await closed(stream);
        await new Promise(setImmediate);
        run.note('left open', descriptorsOf(file.path));
        run.note('state', stateOf(stream));
        run.note('sink destroyed', sink.destroyed);
        sink.destroy();
        peer.destroy();
        return stream;
      }, wentAt(stage));
    });
  });
});

function stateOf(stream: fs.ReadStream) {
  const { destroyed, errored, closed, readableAborted, readableEnded, pending, readable } = stream;
  return { destroyed, errored, closed, readableAborted, readableEnded, pending, readable };
}

describe('the sink is destroyed, pipeline', () => {
  // Before the file is open its opening and the socket's close race.
  const decided = stages.filter((stage) => stage !== 'before open');
  describe.each([
    ['destroy()', undefined],
    ['destroy(error)', failure()],
  ])('by %s', (_name, error) => {
    test.each(decided)('%s', async (stage) => {
      await sameAsFs(async (run) => {
        const { stream, file } = await actAt(run, stage, byPipeline, (_stream, sink) => {
          sink.destroy(error);
        });
        await closed(stream);
        run.note('left open', descriptorsOf(file.path));
        run.note('state', stateOf(stream));
        return stream;
      }, 'either way');
    });
  });

  test('in mid-transfer, stream/promises', async () => {
    await sameAsFs(async (run) => {
      let sent: Promise<unknown> = Promise.resolve();
      const stuck = await stuckHalfWay(run, {}, (stream, sink) => {
        sent = pipelinePromise(stream, sink).catch(cancelled);
      });
      stuck.sink.destroy();
      run.note('rejected with', await sent);
      return stuck.stream;
    }, sendfile);
  });
});

describe('the sink is destroyed, pipe: ours closes the file, which fs leaks', () => {
  const early: Stage[] = ['before the pipe', 'before open', "at 'open'", 'mid-transfer'];
  test.each(early)('%s', async (stage) => {
    for (const way of ['fs', 'native', 'ordinary'] as const) {
      const run = new Run(way);
      const { stream, sink, file } = await actAt(run, stage, pipe, (_stream, sink) => {
        sink.destroy();
      });
      await closed(sink);
      if (way !== 'fs') {
        await closed(stream);
        expect(descriptorsOf(file.path)).toBe(0);
        expect(run.seen.events.stream?.at(-1)).toBe('close [pending destroyed closed]');
        expect(run.seen.events.stream?.join()).not.toContain('error');
      } else {
        await until(() => descriptorsOf(file.path) === 1, 'the file is open');
        for (let turn = 0; turn < 10; turn++) await new Promise(setImmediate);
        expect(stream.destroyed).toBe(false);
        expect(descriptorsOf(file.path)).toBe(1);
        stream.destroy();
        await closed(stream);
      }
    }
  });

  test('but for that, the same is seen', async () => {
    await sameAsFs(
      async (run) => {
        const { stream, sink } = await actAt(run, 'mid-transfer', pipe, (_stream, sink) => {
          sink.destroy(failure());
        });
        await closed(sink);
        if (run.way === 'fs') run.leave(stream);
        else await closed(stream);
        if (run.way === 'fs') onTestFinished(() => void stream.destroy());
        return stream;
      },
      sendfile,
      ({ events }) => events.stream?.push('close [pending destroyed closed]'),
    );
  });

  test('autoClose: false leaves it open', async () => {
    await sameAsFs(async (run) => {
      const stuck = await stuckHalfWay(run, { autoClose: false });
      const { stream, sink, file } = stuck;
      sink.destroy();
      await closed(sink);
      for (let turn = 0; turn < 10; turn++) await new Promise(setImmediate);
      run.note('destroyed', stream.destroyed);
      await until(() => descriptorsOf(file.path) === 1, 'nobody else has it open');
      stream.destroy();
      await closed(stream);
      run.note('left open then', descriptorsOf(file.path));
      return stream;
    }, 'either way');
  });

  const claims: [string, Went | 'either way', (stuck: Stuck, run: Run) => Promise<void>][] = [
    [
      'a pipe to another socket',
      'either way',
      async ({ sink, stream, file }, run) => {
        const { sink: other, peer } = await wireTo('tcp', 0);
        sink.destroy();
        await closed(sink);
        stream.pipe(other);
        noteTail(run, await receive(peer), file.content);
      },
    ],
    [
      "a 'data' listener",
      switched,
      async ({ sink, stream, file }, run) => {
        sink.destroy();
        await closed(sink);
        const chunks: Buffer[] = [];
        stream.on('data', (chunk) => chunks.push(chunk as Buffer));
        stream.resume();
        await closed(stream);
        noteTail(run, Buffer.concat(chunks), file.content);
      },
    ],
    [
      'for await',
      switched,
      async ({ sink, stream, file }, run) => {
        sink.destroy();
        await closed(sink);
        noteTail(run, await receive(stream), file.content);
      },
    ],
  ];
  test.each(claims)('%s at its close: it is not destroyed', async (_name, went, claim) => {
    await sameAsFs(async (run) => {
      const stuck = await stuckHalfWay(run);
      await claim(stuck, run);
      await closed(stuck.stream);
      run.note('left open', descriptorsOf(stuck.file.path));
      return stuck.stream;
    }, went);
  });
});

/** Of bytes that follow what a sink has dropped: how much that was differs. */
function noteTail(run: Run, bytes: Buffer, content: Buffer): void {
  const some = bytes.length > 0 && bytes.length < content.length;
  run.note('tail', some && bytes.equals(content.subarray(content.length - bytes.length)));
}

describe('the peer goes', () => {
  // Whether the error or the end is met first, by a read or a write, is the kernel's choice.
  const decided = (seen: Seen) => {
    seen.events.sink = seen.events.sink?.filter((event) => event !== 'end') ?? [];
    return seen;
  };
  test.each([
    ['tcp', 'pipeline'],
    ['tcp', 'pipe'],
    ['unix', 'pipeline'],
    ['unix', 'pipe'],
  ] as const)('in mid-transfer, %s, %s', async (kind, by) => {
    const seen: Seen[] = [];
    for (const way of ways) {
      const run = new Run(way);
      const { promise, resolve } = withResolvers<NodeJS.ErrnoException | null>();
      const send = (stream: fs.ReadStream, sink: Writable) => {
        if (by === 'pipe') stream.pipe(sink);
        else pipeline(stream, sink, resolve);
      };
      const { stream, sink, peer, file } = await stuckHalfWay(run, {}, send, kind);
      if (kind === 'tcp') peer.resetAndDestroy();
      else peer.destroy();
      if (by === 'pipeline') expect(['EPIPE', 'ECONNRESET']).toContain((await promise)?.code);
      await closed(sink);
      if (by === 'pipe' && way === 'fs') stream.destroy(); // which leaks
      await closed(stream);
      run.note('left open', descriptorsOf(file.path));
      run.note('bytesRead', stream.bytesRead >= 300_000);
      const events = JSON.stringify(decided(run.seen)).replace(/EPIPE|ECONNRESET|read|write/g, '');
      seen.push(JSON.parse(events.replace(/-\d+/g, '0')) as Seen);
    }
    expect(seen[1]).toEqual(seen[0]);
    expect(seen[2]).toEqual(seen[0]);
  });
});
