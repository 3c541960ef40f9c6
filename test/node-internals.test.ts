// What lib/lease.ts relies on and Node does not document. When a release of Node changes any of it,
// this fails, and says what.
import * as net from 'node:net';
import { Writable } from 'node:stream';
import { expect, test, vi } from 'vitest';
import { link } from './helpers/sockets';

type Internals = {
  _write: unknown;
  _writev: unknown;
  _onTimeout: () => void;
  _unrefTimer: () => void;
  _handle: { fd: number; constructor: { name: string } } | null;
  writableBuffer: { chunk: unknown; encoding: string }[];
};
const internals = (socket: net.Socket) => socket as unknown as Internals;

test('net.Socket writes by _write and _writev, on the prototype', () => {
  const prototype = net.Socket.prototype as unknown as Internals;
  expect(prototype._write).toBeTypeOf('function');
  expect(prototype._writev).toBeTypeOf('function');
  expect(net.Socket.prototype.write).toBe(Writable.prototype.write);
});

test('the handle: TCP or Pipe, with a descriptor; none once it is destroyed', async () => {
  for (const [kind, name] of [
    ['tcp', 'TCP'],
    ['unix', 'Pipe'],
  ] as const) {
    const { sink } = await link({ kind });
    expect(internals(sink)._handle?.constructor.name).toBe(name);
    expect(internals(sink)._handle?.fd).toBeGreaterThan(2);
    sink.destroy();
    expect(internals(sink)._handle).toBeNull();
  }
});

test('Writable hands over a subclass of Buffer as it is, and counts its length', () => {
  class Marker extends Uint8Array {
    override get length() {
      return 1;
    }
  }
  Object.setPrototypeOf(Marker.prototype, Buffer.prototype);
  const marker = new Marker(0);
  const seen: unknown[] = [];
  const sink = new Writable({
    write: (chunk, _encoding, done) => {
      seen.push(chunk);
      done();
    },
    writev: (batch, done) => {
      seen.push(...batch.map(({ chunk }) => chunk));
      done();
    },
  });
  sink.write(marker);
  sink.cork();
  sink.write('x');
  sink.write(marker);
  expect(sink.writableLength).toBe(2);
  sink.uncork();
  expect(seen[0]).toBe(marker);
  expect(seen[2]).toBe(marker);
});

test('a batch is an array of { chunk, encoding }, with allBuffers', async () => {
  const { sink } = await link();
  const batches: (unknown[] & { allBuffers?: boolean })[] = [];
  const { _writev } = net.Socket.prototype as unknown as { _writev: (...args: unknown[]) => void };
  internals(sink)._writev = function (this: unknown, batch: unknown[], done: unknown) {
    batches.push(batch);
    _writev.call(this, batch, done);
  };
  sink.cork();
  sink.write(Buffer.from('a'));
  sink.write('b', 'latin1');
  expect(internals(sink).writableBuffer.map(({ encoding }) => encoding)).toEqual([
    'buffer',
    'latin1',
  ]);
  sink.uncork();
  sink.cork();
  sink.write(Buffer.from('a'));
  sink.write(Buffer.from('b'));
  sink.uncork();
  await vi.waitFor(() => expect(batches.length).toBe(2));
  const [first, second] = batches[0] ?? [];
  expect(first).toMatchObject({ encoding: 'buffer', chunk: Buffer.from('a') });
  expect(second).toMatchObject({ encoding: 'latin1', chunk: 'b' });
  expect(batches.map(({ allBuffers }) => allBuffers)).toEqual([false, true]);
});

test('an idle timeout calls _onTimeout as it stood at setTimeout; _unrefTimer restarts it', async () => {
  const { sink } = await link();
  const onTimeout = vi.fn();
  internals(sink)._onTimeout = onTimeout;
  sink.setTimeout(50);
  const timer = setInterval(() => internals(sink)._unrefTimer(), 10);
  await new Promise((resolve) => setTimeout(resolve, 120));
  expect(onTimeout).not.toHaveBeenCalled();
  clearInterval(timer);
  await vi.waitFor(() => expect(onTimeout).toHaveBeenCalledTimes(1));
});

test('bytesWritten is a getter of the prototype', () => {
  const property = Object.getOwnPropertyDescriptor(net.Socket.prototype, 'bytesWritten');
  expect(property?.get).toBeTypeOf('function');
});
