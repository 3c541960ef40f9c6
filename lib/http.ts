// A transfer's turn in the body of an HTTP message: below a ServerResponse or a ClientRequest, above
// the lease on its socket.
//
// The marker goes through the message's own `_send`, so that headers, order, pipelining and corking
// stay Node's. Headers that have not gone yet are in the same batch of writes, and the lease lets the
// transfer send them with its first bytes. A body of unknown length gets the chunks that Node would
// have made.
//
// What Node does not document of messages is touched here and nowhere else: `_header`, `_headerSent`,
// `_hasBody`, `_implicitHeader`, `_send`, `_writeRaw`, `outputData`, `_onPendingData`, `[corked]`,
// `chunkedEncoding`, `_httpMessage`.
import * as fs from 'node:fs';
import { ClientRequest, OutgoingMessage } from 'node:http';
import type { Socket } from 'node:net';
import * as os from 'node:os';
import { isSocketError, systemError } from './errors';
import { because } from './fallback';
import {
  enqueue,
  type FileRange,
  type Job,
  type LeaseTurn,
  lease,
  sendNow,
  type Turn,
  whyNoDescriptor,
  writeMarker,
} from './lease';
import { addon, type Completion, type NativeSegments, Outcome } from './native';
import type { Fallback } from './options';
import { inTime } from './patience';
import { closes, sockets } from './shared-listener';

const { EPIPE } = os.constants.errno;

type Done = (error?: Error | null) => void;

interface Internals {
  _header: string | null;
  _hasBody: boolean;
  _implicitHeader(): void;
  _send(data: Uint8Array, encoding: undefined, done: Done): boolean;
  _writeRaw: unknown;
  _headerSent: boolean;
  outputData: { data: unknown }[];
  _onPendingData?(bytes: number): void;
  chunkedEncoding: boolean;
  strictContentLength: boolean;
}

const internalsOf = (message: OutgoingMessage) => message as unknown as Internals;
const { write, _send, _writeRaw } = OutgoingMessage.prototype as OutgoingMessage & Internals;

/** A ServerResponse or a ClientRequest, of HTTP/1. */
export function isMessage(sink: object): sink is OutgoingMessage {
  return sink instanceof OutgoingMessage;
}

/** Why native code can't write a message's body, as far as can be told by now. */
export function whyNotNativeBody(message: OutgoingMessage): Fallback | undefined {
  const fallback = whyNoBody(message);
  if (fallback) return fallback;
  const { socket } = message;
  if (socket === null) return undefined;
  const current = (socket as Socket & { _httpMessage?: unknown })._httpMessage === message;
  if (!current || !socket.writable) return SOCKET_GONE;
  return whyNoDescriptor(socket);
}

function whyNoBody(message: OutgoingMessage): Fallback | undefined {
  const own = internalsOf(message);
  if (message.write !== write || own._send !== _send || own._writeRaw !== _writeRaw) {
    return OVERRIDDEN;
  }
  if (!own._hasBody) return NO_BODY;
  if (own.strictContentLength) return STRICT_LENGTH;
  return message.writableEnded || message.destroyed ? ENDED : undefined;
}

const OVERRIDDEN = because('SINK_OVERRIDDEN', "the message's write is not Node's own");
const NO_BODY = because('NO_BODY', 'the message has no body: HEAD, 204 or 304');
const STRICT_LENGTH = because('STRICT_LENGTH', 'strictContentLength is on');
const ENDED = because('SINK_HANDLE', 'the message has been ended');
const SOCKET_GONE = because('SINK_HANDLE', "the message's socket has gone");

/**
 * Sends what of a range can be sent at once, and the headers with it, in the body of a message that
 * `whyNotNativeBody` has nothing against. Undefined, and nothing has been sent, where something
 * else goes before, or the body is one of chunks.
 */
export function sendBodyNow(message: OutgoingMessage, range: FileRange): Completion | undefined {
  const internals = internalsOf(message);
  // With the headers, listeners of others may have changed all of it.
  if (!internals._header && (storeHeader(message) ?? whyNoBody(message))) return undefined;
  const { socket } = message;
  if (socket === null || internals.outputData.length > 0) return undefined;
  if (internals.chunkedEncoding) return undefined;
  const head = internals._headerSent ? '' : (internals._header ?? '');
  const sent = sendNow(socket, head, range);
  if (!sent) return undefined;
  if (sent.value > 0) internals._headerSent = true;
  if (sent.value > 0 && sent.value < head.length) socket.write(head.slice(sent.value), 'latin1');
  return head === '' ? sent : { ...sent, value: Math.max(0, sent.value - head.length) };
}

/**
 * Queues a transfer behind what has been written to the message so far. Sends the headers with it, as
 * `write()` would. `otherwise` is called where it turns out that native code can't do it. Chunks of a
 * body of unknown length get `chunkBytes` each.
 */
export function enqueueBody(
  message: OutgoingMessage,
  job: Job,
  chunkBytes: number,
  otherwise: (fallback: Fallback) => void,
): void {
  const { socket } = message;
  // Before its turn a response hears nothing of that, then or later.
  if (!socket && isGone(message)) return job.dropped(new Error('The connection has gone'));
  const fallback = storeHeader(message) ?? whyNotNativeBody(message);
  if (fallback) return otherwise(fallback);
  const internals = internalsOf(message);
  const framed = internals.chunkedEncoding;
  const inner = framed ? new FramedJob(job, chunkBytes) : job;
  // Since Node 22 a message that is corked keeps its chunks to itself: they go first.
  const corks = framed ? corksOf(message) : 0;
  for (let i = 0; i < corks; i++) message.uncork();
  const send = (marker: Uint8Array, done: Done) => internals._send(marker, undefined, done);
  // What the message had kept may have failed.
  const lost = corks > 0 ? whyNotNativeBody(message) : undefined;
  if (lost) {
    otherwise(lost);
  } else if (socket) {
    socket.cork();
    enqueue(socket, inner, send);
    socket.uncork();
  } else {
    enqueueBeforeSocket(message, inner, chunkBytes, send, () => {
      if (!job.over) otherwise(whyNotNativeBody(message) ?? SOCKET_GONE);
    });
  }
  for (let i = 0; i < corks; i++) message.cork();
}

/** How often a message itself is corked; `writableCorked` may count its socket's corks too. */
function corksOf(message: OutgoingMessage): number {
  const symbols = Object.getOwnPropertySymbols(message);
  const corked = symbols.find(({ description }) => description === 'corked');
  return corked ? ((message as unknown as Record<symbol, number>)[corked] ?? 0) : 0;
}

/** Whether a message's connection has gone, also before it was the message's turn there. */
export function isGone(message: OutgoingMessage): boolean {
  return (message.socket ?? requestSocketOf(message))?.destroyed === true;
}

/** A response has no socket before its turn; its request has. */
function requestSocketOf(message: OutgoingMessage): Socket | undefined {
  return (message as { req?: { socket?: Socket } }).req?.socket;
}

/**
 * Ends a message that was promised more bytes than there are: with its connection, or the peer would
 * take what comes next for them.
 */
export function breakOff(message: OutgoingMessage, error: Error): void {
  if (message instanceof ClientRequest) return void message.destroy(error);
  // Since Node 24 a response that is destroyed before its turn leaves its connection open, for good.
  if (!message.socket) sockets.once(message, () => message.socket?.destroy());
  message.destroy(); // a server takes an error of its connection for the client's
}

function storeHeader(message: OutgoingMessage): Fallback | undefined {
  const internals = internalsOf(message);
  try {
    if (!internals._header) internals._implicitHeader();
    return undefined;
  } catch (error) {
    // An ordinary write throws it again, at those who listen for it there.
    return because('UNSUPPORTED', (error as Error).message);
  }
}

/**
 * Queues a transfer among what a message keeps for the socket that it will have: a pipelined response
 * when its turn comes, a request when the agent has one. `otherwise`, where that can't be leased.
 *
 * Node stops reading a connection's requests when too many bytes of answers wait for their turn. Of a
 * transfer none do: it counts as `bytes`, what a stream would have read of the file by then.
 */
function enqueueBeforeSocket(
  message: OutgoingMessage,
  job: Job,
  bytes: number,
  send: (marker: Uint8Array, done: Done) => void,
  otherwise: () => void,
): void {
  const internals = internalsOf(message);
  // Node tells a response that waits for its turn nothing of its connection's end.
  const connection = requestSocketOf(message);
  const stop = () => {
    ignoreSocket();
    ignoreClose();
    ignoreConnection?.();
  };
  const onSocket = () => {
    ignoreConnection?.();
    internals._onPendingData?.(-bytes);
    if (lease(message.socket as Socket)) return;
    stop();
    takeBack(message, marker);
    otherwise();
  };
  const onClose = () => {
    stop();
    takeBack(message, marker);
    job.dropped(new Error('The message was closed before its turn'));
  };
  internals._onPendingData?.(bytes);
  const ignoreSocket = sockets.once(message, onSocket);
  const ignoreClose = closes.once(message, onClose);
  const ignoreConnection = connection && closes.once(connection, onClose);
  const waiting: Job = {
    get over() {
      return job.over;
    },
    start: (turn) => {
      stop();
      job.start(turn);
    },
    dropped: (error) => {
      stop();
      job.dropped(error);
    },
  };
  const marker = writeMarker(waiting, send);
}

/** Takes a marker out of what a message keeps. */
function takeBack(message: OutgoingMessage, marker: Uint8Array): void {
  const { outputData } = internalsOf(message);
  const index = outputData.findIndex(({ data }) => data === marker);
  if (index >= 0) outputData.splice(index, 1);
}

/** Most bytes of a body that one move frames: each of its chunks takes some memory meanwhile. */
const MAX_FRAMED_BYTES = 8 * 1024 * 1024;

class FramedJob implements Job {
  readonly #job: Job;
  readonly #chunkBytes: number;

  constructor(job: Job, chunkBytes: number) {
    this.#job = job;
    this.#chunkBytes = chunkBytes;
  }

  get over(): boolean {
    return this.#job.over;
  }

  start(turn: Turn): void {
    this.#job.start(new FramedTurn(turn as LeaseTurn, this.#chunkBytes));
  }

  dropped(error: Error): void {
    this.#job.dropped(error);
  }
}

type Piece = { memory: Uint8Array; length: number } | { fd: number; at: number; length: number };

/** A turn whose bytes go out in chunks (RFC 9112, 7.1). Counts the bytes of the body alone. */
class FramedTurn implements Turn {
  readonly queued = true;
  readonly #turn: LeaseTurn;
  readonly #chunkBytes: number;
  /** The chunks of the move in hand, and bytes of the body that went before them. */
  #chunks: Piece[] = [];
  #before = 0;
  #cancelled = false;

  constructor(turn: LeaseTurn, chunkBytes: number) {
    this.#turn = turn;
    this.#chunkBytes = chunkBytes;
  }

  move(segments: NativeSegments, ended: (completion: Completion) => void): Fallback | undefined {
    const pieces = piecesOf(segments, this.#chunkBytes);
    this.#before = 0;
    this.#cancelled = false;
    return this.#moveSome(takeSome(pieces), pieces, ended);
  }

  splice(): Fallback {
    return FRAMED;
  }

  moved(): number {
    return this.#before + bodyOf(this.#chunks, this.#turn.moved()).body;
  }

  cancel(): void {
    this.#cancelled = true;
    this.#turn.cancel();
  }

  write(chunk: Uint8Array, accepted: Done): void {
    // A chunk without bytes would be the last one.
    if (chunk.length > 0)
      this.#turn.write(Buffer.concat([head(chunk.length), chunk, CRLF]), accepted);
    else process.nextTick(accepted);
  }

  release(error?: Error): void {
    this.#turn.release(error);
  }

  /** Then nobody takes any next bytes. */
  #hasLostSink({ outcome, errno, call }: Completion): boolean {
    const failed = outcome === Outcome.failed && isSocketError(systemError(errno, call));
    return failed || this.#turn.isGone;
  }

  #moveSome(
    chunks: Piece[],
    pieces: Iterator<Piece>,
    ended: (completion: Completion) => void,
  ): Fallback | undefined {
    this.#chunks = chunks;
    return this.#turn.move(frame(chunks), (completion) => {
      const { body, chunk, within } = bodyOf(chunks, completion.value);
      this.#before += body;
      this.#chunks = [];
      const { outcome } = completion;
      const end = (bytes: number, otherwise?: Partial<Completion>) =>
        ended({ ...completion, value: this.#before + bytes, ...otherwise });
      if (outcome === Outcome.done) {
        const next = takeSome(pieces);
        if (next.length === 0) return end(0);
        if (this.#cancelled) return end(0, { outcome: Outcome.cancelled });
        // The socket has been destroyed since the move before, and nobody has heard of that yet.
        if (this.#moveSome(next, pieces, ended)) end(0, SOCKET_LOST);
      } else if (chunk && outcome !== Outcome.truncated && !this.#hasLostSink(completion)) {
        // What has begun must be brought to its end, or the client takes the next bytes for it.
        restOf(chunk, within).then(
          (rest) => {
            this.#turn.putFirst(rest);
            end(chunk.length);
          },
          () => end(bodyWithin(chunk, within), this.#turn.isGone ? undefined : TRUNCATED),
        );
      } else {
        end(chunk ? bodyWithin(chunk, within) : 0);
      }
    });
  }
}

const FRAMED = because('SINK_TYPE', 'HTTP frames what is written to the sink');
const TRUNCATED = { outcome: Outcome.truncated };
const SOCKET_LOST = { outcome: Outcome.failed, call: 'sendmsg', errno: EPIPE } as const;
const CRLF = Buffer.from('\r\n');

function head(length: number): Buffer {
  return Buffer.from(`${length.toString(16)}\r\n`, 'latin1');
}

function* piecesOf(segments: NativeSegments, most: number): Generator<Piece> {
  for (let i = 0; i < segments.length; i++) {
    const memory = segments[i] as Uint8Array | number;
    if (typeof memory !== 'number') {
      // A copy: what is left of a chunk may be needed when the caller's is another's.
      const copy = Buffer.from(memory);
      for (let at = 0; at < copy.length; at += most) {
        const piece = copy.subarray(at, at + most);
        yield { memory: piece, length: piece.length };
      }
      continue;
    }
    const fd = memory;
    const offset = segments[++i] as number;
    const length = segments[++i] as number;
    for (let at = 0; at < length; at += most) {
      yield { fd, at: offset + at, length: Math.min(most, length - at) };
    }
  }
}

function takeSome(pieces: Iterator<Piece>): Piece[] {
  const some: Piece[] = [];
  for (let bytes = 0; bytes < MAX_FRAMED_BYTES; ) {
    const next = pieces.next();
    if (next.done) break;
    some.push(next.value);
    bytes += next.value.length;
  }
  return some;
}

/** The chunks with what goes before, between and behind them. */
function frame(chunks: Piece[]): NativeSegments {
  const segments: NativeSegments = [];
  // Most of what goes between is the same.
  let between: Buffer = CRLF;
  let betweenFor = 0;
  for (const chunk of chunks) {
    if (segments.length === 0) {
      segments.push(head(chunk.length));
    } else {
      if (chunk.length !== betweenFor) between = Buffer.concat([CRLF, head(chunk.length)]);
      betweenFor = chunk.length;
      segments.push(between);
    }
    if ('memory' in chunk) segments.push(chunk.memory);
    else segments.push(chunk.fd, chunk.at, chunk.length);
  }
  if (segments.length > 0) segments.push(CRLF);
  return segments;
}

/**
 * What of the body has gone when `wire` bytes of the framed chunks have: the bytes of whole chunks,
 * and the chunk that has begun, of which `within` bytes, with its head, have gone.
 */
function bodyOf(chunks: Piece[], wire: number): { body: number; chunk?: Piece; within: number } {
  let body = 0;
  let within = wire;
  for (const chunk of chunks) {
    const framed = head(chunk.length).length + chunk.length + CRLF.length;
    if (within === 0) break;
    if (within < framed) return { body, chunk, within };
    within -= framed;
    body += chunk.length;
  }
  return { body, within: 0 };
}

/** How many bytes of the body are among the first `within` of a framed chunk. */
function bodyWithin(chunk: Piece, within: number): number {
  return Math.min(chunk.length, Math.max(0, within - head(chunk.length).length));
}

/** What is left of a framed chunk of which `within` bytes have gone. */
async function restOf(chunk: Piece, within: number): Promise<Buffer> {
  const start = head(chunk.length);
  const skipped = bodyWithin(chunk, within);
  const data = 'memory' in chunk ? chunk.memory.subarray(skipped) : await read(chunk, skipped);
  const end = CRLF.subarray(Math.max(0, within - start.length - chunk.length));
  return Buffer.concat([start.subarray(within), data, end]);
}

async function read(range: { fd: number; at: number; length: number }, from: number) {
  // On no thread of Node's, which has few of them, and not for ever: it may be a disk that has died.
  const warmed = addon.native?.warm(range.fd, range.at + from, range.length - from);
  if (warmed) await inTime(warmed.catch(() => {})); // without a thread it is read all the same
  const buffer = Buffer.allocUnsafe(range.length - from);
  for (let filled = 0; filled < buffer.length; ) {
    const bytes = await new Promise<number>((resolve, reject) => {
      const { fd, at } = range;
      fs.read(
        fd,
        buffer,
        filled,
        buffer.length - filled,
        at + from + filled,
        (error, bytesRead) => {
          if (error) reject(error);
          else resolve(bytesRead);
        },
      );
    });
    if (bytes === 0) throw new Error('The file has been truncated');
    filled += bytes;
  }
  return buffer;
}
