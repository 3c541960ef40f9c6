// What else an fs.ReadStream is: its class, its properties, its late listeners, its context; and
// files that are none.

import { AsyncLocalStorage } from 'node:async_hooks';
import { execFileSync } from 'node:child_process';
import { once } from 'node:events';
import * as fs from 'node:fs';
import * as path from 'node:path';
import { Readable } from 'node:stream';
import { describe, expect, test } from 'vitest';
import { createReadStream } from 'zerocopy';
import { scratchFolder, testFile } from './helpers/files';
import {
  closed,
  fellBack,
  type Options,
  type Run,
  sameAsFs,
  sendfile,
  stuckHalfWay,
  wholeOf,
  wireTo,
} from './helpers/parity';
import { receive } from './helpers/sockets';

test('it is an fs.ReadStream', async () => {
  const stream = createReadStream('/dev/null');
  expect(stream).toBeInstanceOf(fs.ReadStream);
  expect(stream).toBeInstanceOf(Readable);
  expect(stream.constructor.name).toBe('ReadStream');
  const original = fs.createReadStream('/dev/null');
  expect(Object.keys(stream)).toEqual(Object.keys(original));
  expect(JSON.stringify(stream)).toBe(JSON.stringify(original));
  stream.destroy();
  original.destroy();
  await Promise.all([once(stream, 'close'), once(original, 'close')]);
});

const propertiesOf = (stream: fs.ReadStream) => {
  const { path, bytesRead, pending, destroyed, closed, errored } = stream;
  const { flags, mode, start, end, fd, autoClose, pos } = stream as unknown as Record<
    string,
    unknown
  >;
  const state = { pending, destroyed, closed, errored, bytesRead, pos, fd: fd === null };
  return { path, flags, mode, start, end, autoClose, ...state };
};

describe('properties at each event', () => {
  const options: Options[] = [
    undefined,
    { start: 1, end: 90_000, mode: 0o600 },
    { flags: 'r+', highWaterMark: 5000 },
  ];
  test.each(options)('%j', async (given) => {
    const file = testFile(100_000);
    await sameAsFs(async (run) => {
      const { sink, peer } = await wireTo('tcp', 0);
      const stream = run.open(file.path, given);
      run.note('created', propertiesOf(stream));
      for (const event of ['open', 'ready', 'end', 'close']) {
        // `pos` is the file's own affair: where there is no start it is not kept.
        stream.once(event, () => run.note(event, { ...propertiesOf(stream), pos: 0 }));
      }
      stream.once('open', (fd) => run.note('fd', fd === (stream as unknown as { fd: number }).fd));
      stream.pipe(sink);
      await receive(peer);
      return stream;
    }, sendfile);
  });
});

describe('late listeners', () => {
  test("of 'open' and 'ready', after microtasks", async () => {
    const file = testFile(100_000);
    await sameAsFs(async (run) => {
      const { sink, peer } = await wireTo('tcp', 0);
      const stream = run.create(file.path);
      stream.pipe(sink);
      await null;
      await null;
      const heard: string[] = [];
      stream.once('ready', () => heard.push('ready'));
      stream.once('open', () => heard.push('open'));
      await receive(peer);
      await closed(stream);
      run.note('heard', heard);
      return stream;
    }, sendfile);
  });

  test("once 'end', then once 'close'", async () => {
    const file = testFile(100_000);
    await sameAsFs(async (run) => {
      const { sink, peer } = await wireTo('tcp', 0);
      const stream = run.create(file.path);
      peer.resume();
      stream.pipe(sink);
      await once(stream, 'open');
      await once(stream, 'end');
      await once(stream, 'close');
      run.note('closed', stream.closed);
      return stream;
    }, sendfile);
  });

  test("of 'error', after microtasks", async () => {
    await sameAsFs(
      async (run) => {
        const { sink } = await wireTo('tcp', 0);
        const stream = run.create('/none');
        stream.pipe(sink);
        await null;
        const [error] = await once(stream, 'error').catch((thrown) => [thrown]);
        run.note('code', error.code);
        return stream;
      },
      { backend: null },
    );
  });
});

test.each([100, 100_000])('AsyncLocalStorage of the creation, %d bytes', async (size) => {
  const storage = new AsyncLocalStorage<string>();
  const file = testFile(size);
  await sameAsFs(
    async (run) => {
      const { sink, peer } = await wireTo('tcp', 0);
      const stores: [string, string | undefined][] = [];
      const listen = (stream: fs.ReadStream, events: string[]) => {
        for (const event of events) {
          stream.on(event, () => stores.push([event, storage.getStore()]));
        }
      };
      const stream = storage.run('creation', () => run.create(file.path));
      const bad = storage.run('failure', () => run.create('/none'));
      listen(stream, ['open', 'ready', 'end', 'close']);
      listen(bad, ['error', 'close']);
      storage.run('pipe', () => stream.pipe(sink));
      const badClosed = closed(bad);
      await receive(peer);
      await Promise.all([closed(stream), badClosed]);
      run.note('stores', stores.sort());
      return stream;
    },
    { backend: size === 100 ? 'read' : 'sendfile' },
  );
});

test('AsyncLocalStorage, after a transfer that was stuck', async () => {
  const storage = new AsyncLocalStorage<string>();
  await sameAsFs(async (run) => {
    const stores: [string, string | undefined][] = [];
    const stuck = await storage.run('creation', () => stuckHalfWay(run));
    for (const event of ['end', 'close']) {
      stuck.stream.on(event, () => stores.push([event, storage.getStore()]));
    }
    await storage.run('reader', () => wholeOf(stuck));
    await closed(stuck.stream);
    run.note('stores', stores);
    return stuck.stream;
  }, sendfile);
});

async function piped(run: Run, file: string, options?: Options) {
  const { sink, peer } = await wireTo('tcp', 0);
  run.watch(sink);
  const stream = run.open(file, options);
  stream.pipe(sink);
  const bytes = await receive(peer);
  await closed(stream);
  return { stream, bytes };
}

describe('files that are none', () => {
  test.each(['/proc/version', '/proc/cmdline', '/sys/kernel/mm/transparent_hugepage/enabled'])(
    '%s',
    async (file) => {
      await sameAsFs(async (run) => {
        const { stream, bytes } = await piped(run, file);
        run.noteBytes('bytes', bytes, fs.readFileSync(file));
        return stream;
      }, fellBack('SOURCE_SIZE'));
    },
  );

  test('/proc/self/status', async () => {
    await sameAsFs(async (run) => {
      const { stream, bytes } = await piped(run, '/proc/self/status');
      run.note('whole', /^Name:.*\n(.*\n)*nonvoluntary_ctxt_switches:\s\d+\n$/.test(`${bytes}`));
      run.seen.events.stream = []; // its length varies
      return stream;
    }, fellBack('SOURCE_SIZE'));
  });

  test('/dev/null, and a piece of /dev/zero', async () => {
    for (const [file, end] of [
      ['/dev/null', 5],
      ['/dev/zero', 99_999],
    ] as const) {
      await sameAsFs(async (run) => {
        const { stream, bytes } = await piped(run, file, { end });
        run.noteHash('bytes', bytes);
        return stream;
      }, fellBack('SOURCE_TYPE'));
    }
  });

  test('a FIFO whose writer comes later', async () => {
    const file = path.join(scratchFolder(), 'fifo');
    execFileSync('mkfifo', [file]);
    await sameAsFs(async (run) => {
      const { sink, peer } = await wireTo('tcp', 0);
      run.watch(sink);
      const stream = run.open(file);
      stream.pipe(sink);
      await new Promise(setImmediate);
      run.note('pending', stream.pending);
      const writer = fs.createWriteStream(file);
      writer.write('one ');
      await once(writer, 'open');
      setImmediate(() => writer.end('two'));
      run.note('bytes', `${await receive(peer)}`);
      await Promise.all([closed(stream), closed(writer)]);
      return stream;
    }, fellBack('SOURCE_TYPE'));
  });
});
