// What lib/lease.ts, gate.ts, socket-source.ts, handle.ts, idle.ts, http.ts and read-stream.ts rely on and
// Node does not document. When a release of Node changes any of it, this fails, and says what.
import { once } from 'node:events';
import * as fs from 'node:fs';
import * as http from 'node:http';
import * as net from 'node:net';
import { PassThrough, Readable, Writable } from 'node:stream';
import { expect, test, vi } from 'vitest';
import { testFile } from './helpers/files';
import { answersOf, connectTo, get, receiveAll, serve } from './helpers/http';
import { sleep, until } from './helpers/process';
import { link, receive } from './helpers/sockets';

type Internals = {
  _write: unknown;
  _writev: unknown;
  _onTimeout: () => void;
  _unrefTimer: () => void;
  _handle: {
    fd: number;
    reading: boolean;
    readStop(): number;
    constructor: { name: string };
  } | null;
  _read: (size: number) => void;
  parser?: unknown;
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

// lib/gate.ts, lib/socket-source.ts: sockets as sources.

test('readStop() keeps libuv from reading, and _read(), of the prototype, starts it again', async () => {
  const { sink, peer } = await link();
  const { _read } = net.Socket.prototype as unknown as Internals;
  expect(Object.hasOwn(peer, '_read')).toBe(false);
  peer.on('readable', () => {});
  await vi.waitFor(() => expect(internals(peer)._handle?.reading).toBe(true));
  const handle = internals(peer)._handle;
  if (handle) handle.reading = false;
  expect(handle?.readStop()).toBe(0);
  internals(peer)._read = vi.fn();
  sink.write('there');
  await new Promise((resolve) => setTimeout(resolve, 50));
  expect(peer.readableLength).toBe(0);
  expect(peer.bytesRead).toBe(0);
  _read.call(peer, 0);
  expect(handle?.reading).toBe(true);
  await vi.waitFor(() => expect(peer.readableLength).toBe(5));
});

test('readableFlowing has a setter, which emits nothing: what comes stays in the stream', async () => {
  const { sink, peer } = await link();
  const seen = vi.fn();
  for (const event of ['data', 'pause', 'resume']) peer.on(event, seen);
  peer.resume();
  await vi.waitFor(() => expect(seen).toHaveBeenCalledTimes(1)); // 'resume'
  (peer as { readableFlowing: boolean | null }).readableFlowing = false;
  sink.write('there');
  await vi.waitFor(() => expect(peer.readableLength).toBe(5));
  expect(peer.readableFlowing).toBe(false);
  expect(seen).toHaveBeenCalledTimes(1);
});

test("'readable' is emitted, and read() emits 'data', whether anybody listens or not", async () => {
  const { sink, peer } = await link();
  const emit = vi.spyOn(peer, 'emit');
  (peer as { readableFlowing: boolean | null }).readableFlowing = false;
  expect(peer.read()).toBeNull();
  sink.write('there');
  await vi.waitFor(() => expect(emit).toHaveBeenCalledWith('readable'));
  const chunk = peer.read();
  expect(emit).toHaveBeenCalledWith('data', chunk);
});

test('bytesRead is a getter of the prototype', () => {
  const property = Object.getOwnPropertyDescriptor(net.Socket.prototype, 'bytesRead');
  expect(property?.get).toBeTypeOf('function');
});

test('a socket that reads into a buffer of its own has it at the symbol kBuffer', () => {
  const read = (socket: net.Socket) => {
    const symbols = Object.getOwnPropertySymbols(socket);
    const symbol = symbols.find(({ description }) => description === 'kBuffer');
    return symbol && (socket as unknown as Record<symbol, unknown>)[symbol];
  };
  const buffer = Buffer.alloc(10);
  const onread = { buffer, callback: () => true };
  expect(read(new net.Socket({ onread } as net.SocketConstructorOpts))).toBe(buffer);
  expect(read(new net.Socket())).toBeFalsy();
});

test("a server's connection has a parser, until it is upgraded", async () => {
  const { server, address } = await serve((request, response) => {
    expect(internals(request.socket).parser).toBeTruthy();
    response.end();
  });
  const upgraded = once(server, 'upgrade') as Promise<[http.IncomingMessage, net.Socket]>;
  const { peer } = await connectTo(server, address);
  peer.write(get('/'));
  peer.write(get('/', 'Connection: upgrade', 'Upgrade: other'));
  const [, socket] = await upgraded;
  expect(internals(socket).parser).toBeFalsy();
  socket.destroy();
});

// lib/http.ts: OutgoingMessage.

type Message = {
  _header: string | null;
  _headerSent: boolean;
  _hasBody: boolean;
  _implicitHeader(): void;
  _storeHeader(...head: unknown[]): void;
  _contentLength: number | null;
  _send(data: Uint8Array, encoding: undefined, done: () => void): boolean;
  _writeRaw(data: Uint8Array): boolean;
  outputData: unknown[];
  _onPendingData(bytes: number): void;
  chunkedEncoding: boolean;
  strictContentLength: boolean;
};
const message = (of: http.OutgoingMessage) => of as unknown as Message;
const current = (socket: net.Socket | null) =>
  (socket as unknown as { _httpMessage: unknown } | null)?._httpMessage;

type Listener = (response: http.ServerResponse, request: http.IncomingMessage) => void;

/** Answers requests on one connection, with what may fail of it, and returns what the client gets. */
async function answered(listener: Listener, requests = get('/', 'Connection: close')) {
  const errors: unknown[] = [];
  const { server, address } = await serve((request, response) => {
    try {
      listener(response, request);
    } catch (error) {
      errors.push(error);
      request.socket.destroy();
    }
  });
  const { peer } = await connectTo(server, address);
  peer.write(requests);
  const wire = await receiveAll(peer);
  expect(errors).toEqual([]);
  return wire;
}

test("OutgoingMessage: write, _send and _writeRaw are the prototype's, for both kinds", () => {
  const { prototype } = http.OutgoingMessage;
  for (const name of ['write', '_send', '_writeRaw', '_implicitHeader'] as const) {
    expect((prototype as unknown as Message & { write: unknown })[name]).toBeTypeOf('function');
  }
  for (const { prototype: derived } of [http.ServerResponse, http.ClientRequest]) {
    expect(derived).toBeInstanceOf(http.OutgoingMessage);
    for (const name of ['write', '_send', '_writeRaw']) {
      expect(Object.hasOwn(derived, name), name).toBe(false);
    }
    expect(Object.hasOwn(derived, '_implicitHeader')).toBe(true);
  }
});

test('a message has its head in _header, once _implicitHeader has made it, and sends it once', async () => {
  const wire = await answered((response) => {
    const own = message(response);
    expect([own._header, own._headerSent, own.outputData]).toEqual([null, false, []]);
    expect([own._hasBody, own.chunkedEncoding, own.strictContentLength]).toEqual([
      true,
      false,
      false,
    ]);
    own._implicitHeader();
    expect(own._header).toMatch(/^HTTP\/1\.1 200 OK\r\n[\s\S]*Transfer-Encoding: chunked\r\n\r\n$/);
    expect([own._headerSent, own.chunkedEncoding, response.headersSent]).toEqual([
      false,
      true,
      true,
    ]);
    // Below the framing, behind the head, in the socket's own writes.
    response.socket?.cork();
    own._send(Buffer.from('2\r\nab\r\n'), undefined, () => {});
    expect([own._headerSent, own.outputData]).toEqual([true, []]);
    const { writableBuffer } = internals(response.socket as net.Socket);
    expect(writableBuffer.map(({ chunk }) => String(chunk))).toEqual([own._header, '2\r\nab\r\n']);
    response.socket?.uncork();
    response.end();
  });
  expect(answersOf(wire)).toMatchObject([{ whole: true, body: Buffer.from('ab') }]);
});

test('_storeHeader makes the head, however it is asked for, and end() tells it _contentLength', async () => {
  type Way = [(response: http.ServerResponse) => void, number | null];
  const ways: Way[] = [
    [(response) => response.end('ab'), 2],
    [(response) => response.end(), 0],
    [(response) => response.write('ab'), null],
    [(response) => response.writeHead(200), null],
    [(response) => response.flushHeaders(), null],
  ];
  for (const [way, length] of ways) {
    const seen: unknown[] = [];
    await answered((response) => {
      const own = message(response);
      const { _storeHeader } = own;
      own._storeHeader = (...head) => {
        seen.push([own._header, own._contentLength]);
        own._contentLength = null;
        _storeHeader.apply(response, head);
        seen.push(own.chunkedEncoding);
      };
      way(response);
      response.end();
    });
    expect(seen).toEqual([[null, length], true]);
  }
});

test('a head that has been sent by other means is not sent again', async () => {
  const wire = await answered((response) => {
    response.setHeader('Content-Length', 2);
    const own = message(response);
    own._implicitHeader();
    expect(own.chunkedEncoding).toBe(false);
    response.socket?.write(own._header ?? '', 'latin1');
    own._headerSent = true;
    response.end('ab');
  });
  expect(answersOf(wire)).toMatchObject([{ whole: true, body: Buffer.from('ab') }]);
  expect(answersOf(wire)).toHaveLength(1);
});

test('_hasBody: false for HEAD from the first, for 204 and 304 with the head', async () => {
  const requests = ['HEAD', 'GET'].map((method) => `${method} / HTTP/1.1\r\nHost: h\r\n`);
  await answered((response) => {
    expect(message(response)._hasBody).toBe(false);
    response.end();
  }, `${requests[0]}Connection: close\r\n\r\n`);
  for (const status of [204, 304]) {
    await answered((response) => {
      response.statusCode = status;
      expect(message(response)._hasBody).toBe(true);
      message(response)._implicitHeader();
      expect(message(response)._hasBody).toBe(false);
      response.end();
    }, `${requests[1]}Connection: close\r\n\r\n`);
  }
});

test('strictContentLength counts what write() gets, and throws', async () => {
  await answered((response) => {
    response.setHeader('Content-Length', 1);
    response.strictContentLength = true;
    response.flushHeaders();
    expect(() => response.write('ab')).toThrow(/content-length/i);
    response.end('a');
  });
});

test("a pipelined response: outputData, then 'socket', and only then _flush", async () => {
  const seen: unknown[] = [];
  let first: http.ServerResponse | undefined;
  const wire = await answered((response, { socket }) => {
    if (!first) {
      first = response;
      expect(response.socket).toBe(socket);
      expect(current(socket)).toBe(response);
      return;
    }
    expect([response.socket, message(response).outputData]).toEqual([null, []]);
    expect(current(socket)).toBe(first);
    response.setHeader('Content-Length', 3);
    response.setHeader('Connection', 'close');
    response.write('a');
    expect(message(response).outputData).toHaveLength(1); // with the head before it
    response.once('socket', () => {
      // The socket is the message's own, and what has waited has not been written.
      seen.push(response.socket === socket, current(socket) === response);
      seen.push(message(response).outputData.length);
      // What is written now goes behind that.
      message(response)._send(Buffer.from('b'), undefined, () => {});
      seen.push(message(response).outputData.length);
      setImmediate(() => response.end('c'));
    });
    first.end('first');
  }, get('/') + get('/'));
  const [, second] = answersOf(wire);
  expect(second).toMatchObject({ whole: true, body: Buffer.from('abc') });
  expect(seen).toEqual([true, true, 1, 0]);
});

test('_onPendingData: with as many bytes waiting, Node reads no requests until they have gone', async () => {
  const responses: http.ServerResponse[] = [];
  const { server, address } = await serve((_request, response) => responses.push(response));
  const { sink, peer } = await connectTo(server, address);
  peer.write(get());
  await until(() => responses.length === 1, 'the first is there');
  message(responses[0] as http.ServerResponse)._onPendingData(sink.writableHighWaterMark + 1);
  peer.write(get());
  await until(() => responses.length === 2, 'the second finds that they wait');
  peer.write(get());
  await sleep(100);
  expect(responses).toHaveLength(2);
  message(responses[0] as http.ServerResponse)._onPendingData(-sink.writableHighWaterMark - 1);
  await until(() => responses.length === 3, 'the third is read');
  // Of a request that waits for a connection nobody counts them.
  const request = http.request({ ...address, agent: false });
  request.on('error', () => {});
  expect(message(request)._onPendingData(1)).toBeUndefined();
  request.destroy();
});

test("a request has no socket at first; then 'socket', and it is the socket's _httpMessage", async () => {
  const { address } = await serve((_request, response) => response.end());
  const request = http.request({ ...address, method: 'POST', agent: false });
  expect(request.socket).toBeNull();
  const [socket] = (await once(request, 'socket')) as [net.Socket];
  expect(request.socket).toBe(socket);
  expect(current(socket)).toBe(request);
  expect(socket.connecting).toBe(true);
  request.end();
  const [response] = (await once(request, 'response')) as [http.IncomingMessage];
  response.resume();
  await once(response, 'close');
});

test('a response lets go of its socket when it has finished', async () => {
  await answered((response, { socket }) => {
    response.once('close', () => {
      expect([response.socket, current(socket)]).toEqual([null, null]);
    });
    response.end('x');
  });
});

// lib/read-stream.ts: Readable and fs.ReadStream.

test('_readableState.pipes is the list of sinks', () => {
  const source = new Readable({ read: () => {} });
  const { pipes } = (source as unknown as { _readableState: { pipes: unknown[] } })._readableState;
  expect(pipes).toEqual([]);
  const sinks = [new PassThrough(), new PassThrough()];
  const now = () =>
    (source as unknown as { _readableState: { pipes: unknown[] } })._readableState.pipes;
  for (const sink of sinks) source.pipe(sink);
  expect(now()).toEqual(sinks);
  expect([source.listenerCount('data'), source.listenerCount('readable')]).toEqual([2, 0]);
  source.unpipe(sinks[0]);
  expect(now()).toEqual([sinks[1]]);
  source.unpipe();
  expect([now(), source.listenerCount('data'), source.readableFlowing]).toEqual([[], 0, false]);
});

test('a pipe calls _read with highWaterMark when nothing is buffered, and again after each push', async () => {
  const seen: unknown[] = [];
  const source = new Readable({
    highWaterMark: 1000,
    read(size) {
      seen.push([size, this.readableLength, this.readableFlowing]);
      setImmediate(() => this.push(seen.length < 3 ? Buffer.alloc(700) : null));
    },
  });
  const sink = new PassThrough();
  source.pipe(sink);
  expect(seen).toEqual([]); // not within pipe()
  sink.resume();
  await once(sink, 'end');
  expect(seen).toEqual([
    [1000, 0, true],
    [1000, 0, true],
    [1000, 0, true],
  ]);
});

test('_construct comes a tick after the constructor, before _read; _destroy waits for it', async () => {
  const calls: string[] = [];
  const source = new Readable({
    construct(done) {
      calls.push('construct');
      setImmediate(done);
    },
    read() {
      calls.push('read');
      this.push(null);
    },
    destroy(error, done) {
      calls.push('destroy');
      done(error);
    },
  });
  expect(calls).toEqual([]);
  source.resume();
  await once(source, 'close');
  expect(calls).toEqual(['construct', 'read', 'destroy']);
});

type FileStream = {
  fd: number | null;
  pos: number | undefined;
  start: number | undefined;
  end: number;
  autoClose: boolean;
  flags: string;
  open: unknown;
  _construct: unknown;
  _destroy: unknown;
  _read: unknown;
};

test('fs.ReadStream: fd, pos, start, end, autoClose, flags, bytesRead and open', async () => {
  const file = testFile(1000);
  const prototype = fs.ReadStream.prototype as unknown as FileStream;
  // Until Node 26 there was an open(), which is called in the place of fs.open() if it is replaced.
  expect(['function', 'undefined']).toContain(typeof prototype.open);
  for (const name of ['_construct', '_destroy', '_read'] as const) {
    expect(prototype[name], name).toBeTypeOf('function');
    expect(Object.hasOwn(prototype, name), name).toBe(true);
  }
  const whole = fs.createReadStream(file.path);
  const own = whole as unknown as FileStream;
  const facts = () => [own.fd, own.pos, own.start, own.end, own.autoClose, own.flags];
  expect(facts()).toEqual([null, undefined, undefined, Number.POSITIVE_INFINITY, true, 'r']);
  expect([own.open, Object.hasOwn(own, 'bytesRead')]).toEqual([prototype.open, true]);
  await once(whole, 'ready');
  expect(own.fd).toBeTypeOf('number');
  whole.resume();
  await once(whole, 'close');
  expect([own.fd, own.pos, whole.bytesRead]).toEqual([null, undefined, 1000]);

  const part = fs.createReadStream(file.path, { start: 100, end: 599, autoClose: false });
  const its = part as unknown as FileStream;
  expect([its.pos, its.start, its.end, its.autoClose]).toEqual([100, 100, 599, false]);
  part.resume();
  await once(part, 'end');
  expect([its.pos, part.bytesRead, its.fd]).toEqual([600, 500, expect.any(Number)]);
  part.destroy();
  await once(part, 'close');
});

test('fs.ReadStream reads where pos and end say by then', async () => {
  const file = testFile(1000);
  const stream = fs.createReadStream(file.path, { highWaterMark: 70 });
  const own = stream as unknown as FileStream;
  stream.on('open', () => Object.assign(own, { pos: 700, end: 899 }));
  expect((await receive(stream)).equals(file.content.subarray(700, 900))).toBe(true);
  expect([own.pos, stream.bytesRead]).toEqual([900, 200]);
});

test('fs.ReadStream closes by its own fd, in _destroy', async () => {
  const stream = fs.createReadStream(testFile(10).path);
  await once(stream, 'ready');
  const own = stream as unknown as FileStream;
  const { fd } = own;
  own.fd = null;
  stream.destroy();
  await once(stream, 'close');
  expect(() => fs.fstatSync(fd as number)).not.toThrow(); // it was not known any more
  fs.closeSync(fd as number);
});

test('how often a message is corked: a symbol of its own', () => {
  const message = new http.ServerResponse(new http.IncomingMessage(new net.Socket()));
  const corked = Object.getOwnPropertySymbols(message).filter(
    ({ description }) => description === 'corked',
  );
  expect(corked).toHaveLength(1);
  const count = () => (message as unknown as Record<symbol, number>)[corked[0] as symbol];
  expect(count()).toBe(0);
  message.cork();
  expect(count()).toBe(1);
  message.uncork();
  expect(count()).toBe(0);
});
