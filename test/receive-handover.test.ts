// Between JavaScript and the kernel: a protocol whose headers are read by JavaScript, in every way
// that Node has, and whose bodies are transferred to a file. At every change of hands the next byte
// must be the next one, wherever the segments on the wire are cut.
import { once } from 'node:events';
import * as fs from 'node:fs';
import type * as net from 'node:net';
import { PassThrough } from 'node:stream';
import { describe, expect, test } from 'vitest';
import { transfer } from 'zerocopy';
import { backends } from './helpers/backends';
import { pattern } from './helpers/files';
import { openDescriptors, sleep, until } from './helpers/process';
import { link, receive, receiveBytes } from './helpers/sockets';
import {
  countEvents,
  cut,
  descriptorsBack,
  expectSpliced,
  fileTarget,
  kinds,
  restOf,
  sides,
  sourceLink,
  writePieces,
} from './helpers/sources';

const HEADER_BYTES = 8;

interface Frame {
  header: Buffer;
  body: Buffer;
}

/** Frames of many sizes; each header tells its number and its body's length. */
function frames(count: number, sizes: number[]): Frame[] {
  return Array.from({ length: count }, (_, i) => {
    const body = pattern(sizes[i % sizes.length] ?? 0, i + 1);
    const header = Buffer.alloc(HEADER_BYTES);
    header.writeUInt32BE(i, 0);
    header.writeUInt32BE(body.length, 4);
    return { header, body };
  });
}

const wire = (list: Frame[]) => Buffer.concat(list.flatMap(({ header, body }) => [header, body]));

/** Cuts what is sent at a place of each frame, counted from its header's first byte. */
function cutAt(list: Frame[], place: (frame: Frame) => number): Buffer[] {
  const bytes = wire(list);
  const places: number[] = [];
  let start = 0;
  for (const frame of list) {
    places.push(start + place(frame));
    start += HEADER_BYTES + frame.body.length;
  }
  const pieces = [0, ...places].map((from, i) => bytes.subarray(from, places[i]));
  return pieces.filter(({ length }) => length > 0);
}

const cuts: [string, (list: Frame[]) => Buffer[]][] = [
  ['all in one write', (list) => [wire(list)]],
  ['a header and its body in a segment', (list) => cutAt(list, () => 0)],
  ['header and body apart', (list) => list.flatMap(({ header, body }) => [header, body])],
  ['within the header', (list) => cutAt(list, () => 3)],
  ['one byte of the body with the header', (list) => cutAt(list, () => HEADER_BYTES + 1)],
  [
    "half a body and the next one's header and half",
    (list) => cutAt(list, ({ body }) => HEADER_BYTES + (body.length >> 1)),
  ],
  [
    'the last byte of a body with the next header',
    (list) => cutAt(list, ({ body }) => HEADER_BYTES + Math.max(0, body.length - 1)),
  ],
  ['anywhere', (list) => cut(wire(list), [1, 8, 1448, 9, 4096, 3, 65_536, 0, 17, 30_011])],
];

/** Moves the body of a frame whose header has been read. */
type OnHeader = (header: Buffer) => Promise<void>;
/** Reads headers until the end, and hands over between them. */
type Reader = (source: net.Socket, onHeader: OnHeader) => Promise<void>;

/** A 'data' listener that is kept; whoever uses unshift() has to pause, or is given it again. */
const keptListener =
  (later: (call: () => void) => void): Reader =>
  (source, onHeader) =>
    new Promise((resolve, reject) => {
      let held = Buffer.alloc(0);
      let inBody = false;
      source.on('data', (chunk: Buffer) => {
        if (inBody)
          return reject(new Error(`A listener was given ${chunk.length} bytes of a body`));
        held = Buffer.concat([held, chunk]);
        if (held.length < HEADER_BYTES) return;
        const header = held.subarray(0, HEADER_BYTES);
        source.pause();
        if (held.length > HEADER_BYTES) source.unshift(held.subarray(HEADER_BYTES));
        held = Buffer.alloc(0);
        inBody = true;
        later(() => {
          onHeader(header).then(() => {
            inBody = false;
            source.resume();
          }, reject);
        });
      });
      source.on('end', resolve);
      source.resume(); // it may have been paused before it was connected
    });

/** A 'data' listener for each header, which removes itself. */
const removedListener =
  (paused: boolean): Reader =>
  (source, onHeader) =>
    new Promise((resolve, reject) => {
      let held = Buffer.alloc(0);
      const onData = (chunk: Buffer) => {
        held = Buffer.concat([held, chunk]);
        if (held.length < HEADER_BYTES) return;
        const header = held.subarray(0, HEADER_BYTES);
        source.off('data', onData);
        if (paused) source.pause();
        if (held.length > HEADER_BYTES) source.unshift(held.subarray(HEADER_BYTES));
        held = Buffer.alloc(0);
        onHeader(header).then(listen, reject);
      };
      const listen = () => {
        source.on('data', onData);
        if (paused) source.resume();
      };
      source.on('end', resolve);
      listen();
      source.resume();
    });

const readable: Reader = (source, onHeader) =>
  new Promise((resolve, reject) => {
    let inBody = false;
    const onReadable = () => {
      if (inBody) return;
      const header: Buffer | null = source.read(HEADER_BYTES);
      if (header === null) return;
      inBody = true;
      onHeader(header).then(() => {
        inBody = false;
        onReadable();
      }, reject);
    };
    source.on('readable', onReadable).on('end', resolve);
    onReadable();
  });

/** 'readable' is listened for only while a header is waited for. */
const readableOnce: Reader = async (source, onHeader) => {
  for (;;) {
    const header = await receiveBytes(source, HEADER_BYTES);
    if (header.length < HEADER_BYTES) return;
    await onHeader(header);
  }
};

/** The body is transferred in the loop's own body. */
const iteration: Reader = async (source, onHeader) => {
  let held = Buffer.alloc(0);
  for await (const chunk of source) {
    held = Buffer.concat([held, chunk as Buffer]);
    if (held.length < HEADER_BYTES) continue;
    const header = held.subarray(0, HEADER_BYTES);
    if (held.length > HEADER_BYTES) source.unshift(held.subarray(HEADER_BYTES));
    held = Buffer.alloc(0);
    await onHeader(header);
  }
};

/** The loop is left for the body, and the socket is not destroyed by that. */
const iterationLeft: Reader = async (source, onHeader) => {
  for (;;) {
    let held = Buffer.alloc(0);
    for await (const chunk of source.iterator({ destroyOnReturn: false })) {
      held = Buffer.concat([held, chunk as Buffer]);
      if (held.length >= HEADER_BYTES) break;
    }
    if (held.length < HEADER_BYTES) return;
    if (held.length > HEADER_BYTES) source.unshift(held.subarray(HEADER_BYTES));
    await onHeader(held.subarray(0, HEADER_BYTES));
  }
};

const readers: [string, Reader][] = [
  ["'data' kept, transfer in the callback", keptListener((call) => call())],
  ["'data' kept, transfer a tick later", keptListener(process.nextTick)],
  ["'data' kept, transfer in setImmediate", keptListener(setImmediate)],
  ["'data' removed, paused", removedListener(true)],
  ["'data' removed, flowing", removedListener(false)],
  ["read(n) in 'readable'", readable],
  ["read(n), 'readable' once", readableOnce],
  ['async iteration', iteration],
  ['async iteration, left and begun again', iterationLeft],
];

describe.each(backends)('%s', (backend) => {
  /** All frames through one connection; their bodies one after the other in one file. */
  async function converse(reader: Reader, list: Frame[], pieces: Buffer[], parity: number) {
    const { source, writer } = await sourceLink({
      kind: kinds[parity % 2] ?? 'tcp',
      side: sides[(parity >> 1) % 2] ?? 'accepted',
    });
    const { sink, path } = await fileTarget('fd');
    const events = countEvents(source, 'end', 'error');
    const headers: Buffer[] = [];
    let transfers = 0;
    const done = reader(source, async (header) => {
      headers.push(Buffer.from(header));
      const length = header.readUInt32BE(4);
      expect(header.readUInt32BE(0)).toBe(headers.length - 1);
      expectSpliced(await transfer(source, sink, { backend, length }), backend, length);
      transfers += 1;
    });
    writePieces(writer, pieces).then(
      () => writer.end(),
      () => {},
    );
    await done;
    await until(() => transfers === list.length, 'the last body has gone');
    expect(headers).toEqual(list.map(({ header }) => header));
    const bodies = Buffer.concat(list.map(({ body }) => body));
    expect(fs.readFileSync(path).equals(bodies)).toBe(true);
    expect(source.bytesRead).toBe(wire(list).length);
    await until(() => source.readableEnded, "'end' has come");
    expect(events).toEqual({ end: 1, error: 0 });
  }

  describe.each(readers.map((reader, i) => [...reader, i] as const))(
    '%s',
    (_name, reader, index) => {
      test.each(cuts.map((how, i) => [...how, i] as const))('%s', async (_how, cutter, i) => {
        const list = frames(200, [0, 1, 7, 100, 4095, 4097, 20_000, 70_001]);
        await converse(reader, list, cutter(list), index + i);
      });

      test('1 byte at a time', async () => {
        const list = frames(25, [0, 1, 5, 60]);
        await converse(reader, list, cut(wire(list), [1]), index);
      });
    },
  );

  test('a flowing socket: a listener is given what comes before and after the body', async () => {
    const content = pattern(300_000);
    const { source, writer } = await sourceLink();
    const { sink, path } = await fileTarget('path');
    const seen: Buffer[] = [];
    let body: ReturnType<typeof transfer> | undefined;
    source.on('data', (chunk) => {
      seen.push(chunk);
      // The header came alone: nothing is to be put back, and so nobody has to pause.
      body ??= transfer(source, sink, { backend, length: 250_000 });
    });
    writer.write('header');
    await once(source, 'data');
    writer.write(content);
    expectSpliced(await (body as ReturnType<typeof transfer>), backend, 250_000);
    expect(fs.readFileSync(path).equals(content.subarray(0, 250_000))).toBe(true);
    writer.end('the end');
    await once(source, 'end');
    const wanted = [Buffer.from('header'), content.subarray(250_000), Buffer.from('the end')];
    expect(Buffer.concat(seen).equals(Buffer.concat(wanted))).toBe(true);
  });

  test.each(sides)(
    '%s: what begins to listen in mid-transfer is given what follows',
    async (side) => {
      const content = pattern(400_000);
      const { source, writer } = await sourceLink({ side });
      const { sink, path } = await fileTarget('path');
      const body = transfer(source, sink, { backend, length: 300_000 });
      const seen: Buffer[] = [];
      writer.write(content.subarray(0, 100_000));
      await sleep(20);
      source.on('data', (chunk) => seen.push(chunk));
      writer.end(content.subarray(100_000));
      expectSpliced(await body, backend, 300_000);
      source.resume();
      await once(source, 'end');
      expect(fs.readFileSync(path).equals(content.subarray(0, 300_000))).toBe(true);
      expect(Buffer.concat(seen).equals(content.subarray(300_000))).toBe(true);
    },
  );

  test('what is piped in mid-transfer gets what follows', async () => {
    const content = pattern(400_000);
    const { source, writer } = await sourceLink();
    const { sink, path } = await fileTarget('path');
    const body = transfer(source, sink, { backend, length: 300_000 });
    writer.write(content.subarray(0, 100_000));
    await sleep(20);
    const piped = source.pipe(new PassThrough());
    const follows = receive(piped);
    writer.end(content.subarray(100_000));
    expectSpliced(await body, backend, 300_000);
    expect((await follows).equals(content.subarray(300_000))).toBe(true);
    expect(fs.readFileSync(path).equals(content.subarray(0, 300_000))).toBe(true);
  });

  test('transfers that are started in the same tick follow each other', async () => {
    const content = pattern(1_000_000);
    const sockets = await sourceLink();
    const targets = await Promise.all([fileTarget('path'), fileTarget('fd'), fileTarget('path')]);
    const lengths = [300_000, 0, 500_001];
    const results = targets.map(({ sink }, i) =>
      transfer(sockets.source, sink, { backend, length: lengths[i] ?? 0 }),
    );
    sockets.writer.write(content.subarray(0, 100_000));
    await sleep(20);
    sockets.writer.write(content.subarray(100_000));
    let at = 0;
    for (const [i, result] of (await Promise.all(results)).entries()) {
      const length = lengths[i] ?? 0;
      expectSpliced(result, backend, length);
      const wanted = content.subarray(at, at + length);
      expect(fs.readFileSync(targets[i]?.path ?? '').equals(wanted)).toBe(true);
      at += length;
    }
    expect((await restOf(sockets)).equals(content.subarray(at))).toBe(true);
  });

  test('a transfer that waits for another one is aborted: it takes nothing', async () => {
    const content = pattern(300_000);
    const sockets = await sourceLink();
    const [first, second] = await Promise.all([fileTarget('path'), fileTarget('path')]);
    const controller = new AbortController();
    const { signal } = controller;
    const body = transfer(sockets.source, first.sink, { backend, length: 200_000 });
    const waits = transfer(sockets.source, second.sink, { backend, signal }).catch((e) => e);
    sockets.writer.write(content.subarray(0, 100_000));
    await sleep(20);
    controller.abort();
    expect(await waits).toMatchObject({ code: 'ABORT_ERR', transferred: 0 });
    sockets.writer.write(content.subarray(100_000));
    expectSpliced(await body, backend, 200_000);
    expect(fs.readFileSync(first.path).equals(content.subarray(0, 200_000))).toBe(true);
    expect((await restOf(sockets)).equals(content.subarray(200_000))).toBe(true);
  });

  test.each(kinds)(
    '%s: handed over while it is readable in the same turn of the loop',
    async (kind) => {
      // Both sockets are ready when the loop looks: the first one's listener hands over the other,
      // whose event has been fetched and not yet dealt with.
      for (let round = 0; round < 50; round++) {
        const [first, second] = [await sourceLink({ kind }), await sourceLink({ kind })];
        const target = await fileTarget('path');
        const content = pattern(5000 + round, round + 1);
        const handedOver = once(first.source, 'data').then(() =>
          transfer(second.source, target.sink, { backend }),
        );
        first.writer.write('go');
        second.writer.end(content);
        const end = performance.now() + 2;
        while (performance.now() < end); // until the bytes of both are there
        expectSpliced(await handedOver, backend, content.length);
        expect(fs.readFileSync(target.path).equals(content)).toBe(true);
        for (const { source, writer } of [first, second]) {
          source.destroy();
          writer.destroy();
        }
      }
    },
  );

  test.each(sides)("%s: 'end' comes before, during and after a transfer, once", async (side) => {
    const content = pattern(100_000);
    for (const when of ['before', 'during', 'after']) {
      const sockets = await sourceLink({ side });
      const { source, writer } = sockets;
      const { sink, path } = await fileTarget('path');
      const events = countEvents(source, 'end', 'close', 'error');
      const length = when === 'after' ? content.length : undefined;
      if (when === 'before') {
        writer.end(content);
        await sleep(30);
      }
      const result = transfer(source, sink, { backend, ...(length !== undefined && { length }) });
      if (when !== 'before') {
        writer.write(content.subarray(0, 60_000));
        await sleep(30);
        if (when === 'during') writer.end(content.subarray(60_000));
        else writer.write(content.subarray(60_000));
      }
      expectSpliced(await result, backend, content.length);
      if (when === 'after') {
        expect(events.end).toBe(0);
        writer.end();
        source.resume();
      }
      await until(() => events.end === 1, `'end' has come (${when})`);
      source.end();
      writer.resume();
      await until(() => events.close === 1, `'close' has come (${when})`);
      await sleep(10);
      expect(events).toEqual({ end: 1, close: 1, error: 0 });
      expect(fs.readFileSync(path).equals(content)).toBe(true);
    }
  });

  test('a socket that is handed over 1,000 times, to sockets and files in turn', async () => {
    const list = frames(1000, [100, 0, 5000, 33_333]);
    const { source, writer } = await sourceLink();
    const { sink, path } = await fileTarget('fd');
    const other = await link();
    const received = receive(other.peer);
    const before = openDescriptors();
    writer.end(wire(list));
    let count = 0;
    await readableOnce(source, async (header) => {
      const to = count++ % 2 === 0 ? sink : other.sink;
      await transfer(source, to, { backend, length: header.readUInt32BE(4) });
    });
    other.sink.end();
    const bodies = (parity: number) =>
      Buffer.concat(list.filter((_, i) => i % 2 === parity).map(({ body }) => body));
    expect(fs.readFileSync(path).equals(bodies(0))).toBe(true);
    expect((await received).equals(bodies(1))).toBe(true);
    source.destroy();
    other.sink.destroy();
    await descriptorsBack(before);
  });
});
