// Two transfers that make one connection of two.
import * as net from 'node:net';
import type { Duplex } from 'node:stream';
import { RelayError, type TransferError } from './errors';
import { observe } from './observe';
import type { Fallback, TransferOptions, TransferResult } from './options';
import { parseArguments } from './options';
import { move } from './transfer';
import { optionsObject, typeError, valueError } from './validate';

export interface RelayOptions {
  /** Ends the relay, and both its sides with it. */
  signal?: AbortSignal | undefined;
  /** `'native'` rejects where `'auto'` would fall back to streams. @default 'auto' */
  backend?: 'auto' | 'native' | 'stream' | undefined;
}

export interface RelayResult {
  /** Bytes that `b` has accepted. */
  aToB: number;
  /** Bytes that `a` has accepted. */
  bToA: number;
  /** `'stream'` if any bytes went by streams. */
  backend: 'splice' | 'stream';
  /** Present when `backend` is `'stream'`. */
  fallback?: Fallback;
}

const OPTIONS = ['signal', 'backend'] as const;

/**
 * Makes one connection of two: moves what comes from `a` to `b`, and what comes from `b` to `a`, until
 * both have ended. Between TCP and Unix sockets the bytes stay inside the kernel (splice(2)); anything
 * else, a TLSSocket say, goes by streams.
 *
 * What JavaScript has read and put back (`socket.unshift(head)`, with the `head` of 'connect' and
 * 'upgrade' events) goes first, and so does what it has written. The end of one side is passed on as
 * the end of the other, also for sockets made without `allowHalfOpen`, which is turned on. Idle
 * timeouts (`socket.setTimeout()`) count what is relayed.
 *
 * Both sides are the relay's: when one fails or is destroyed, or the signal is aborted, the other is
 * reset, and none of their 'error' events goes unheard. When both have ended they close by themselves.
 *
 * @throws (as a rejection) `ERR_INVALID_ARG_TYPE` or `ERR_INVALID_ARG_VALUE` for a bad argument, with
 * both sides left alone; a {@link RelayError} for everything else
 */
export async function relay(a: Duplex, b: Duplex, options?: RelayOptions): Promise<RelayResult> {
  const given = optionsObject(options, OPTIONS);
  checkDuplex('a', a);
  checkDuplex('b', b);
  if (a === b) throw valueError('b', 'must not be the same as "a"', b);
  const settings = { ...given, endSink: true } as TransferOptions;
  const directions = [
    { args: parseArguments(a, b, settings), from: a, to: b },
    { args: parseArguments(b, a, settings), from: b, to: a },
  ];
  for (const side of [a, b]) {
    side.allowHalfOpen = true;
    side.on('error', ignore);
  }

  let failure: TransferError | undefined;
  const results = await Promise.all(
    directions.map(({ args, from, to }) =>
      move(args, observe(from, to)).catch((error: TransferError) => {
        failure ??= error;
        reset(a);
        reset(b);
        return error;
      }),
    ),
  );
  const [aToB = 0, bToA = 0] = results.map(({ transferred }) => transferred);
  if (failure) {
    // Where neither direction can go natively, `a` to `b` tells why, as its fallback would.
    const refused = results.find((result) => 'code' in result && result.code === 'ERR_NOT_NATIVE');
    throw new RelayError((refused as TransferError | undefined) ?? failure, aToB, bToA);
  }
  const fallback = (results as TransferResult[]).find(({ fallback }) => fallback)?.fallback;
  return { aToB, bToA, backend: fallback ? 'stream' : 'splice', ...(fallback && { fallback }) };
}

const ignore = () => {};

function checkDuplex(name: string, side: unknown): void {
  const { read, write, destroy } = Object(side) as Partial<Duplex>;
  const isDuplex = [read, write, destroy].every((method) => typeof method === 'function');
  if (!isDuplex) throw typeError(name, 'a Duplex stream', side);
}

/** So that the peer can't take it for an end. */
function reset(side: Duplex): void {
  if (side.destroyed) return;
  // Only TCP knows of resets.
  const isTcp = side instanceof net.Socket && side.remoteAddress !== undefined;
  // libuv can't reset what is just being shut down, and Node would never close it then.
  const isEnding = side.writableEnded && !side.writableFinished;
  if (isTcp && !isEnding && !('encrypted' in side)) side.resetAndDestroy();
  else side.destroy();
}
