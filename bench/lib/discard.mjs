import { compile } from './compile.mjs';
import { nodeReceiver, pinned, startReceiver } from './processes.mjs';

/**
 * Starts the cheapest receiver there is. `missing` says why, where it isn't the one in C.
 * @param {{ host: string, port: number }} [remote] one that runs elsewhere, and is taken instead
 */
export async function startDiscardingReceiver(remote) {
  if (remote) return { ...remote, stop: async () => {}, missing: undefined };
  const { program, missing } = compile('bench/receiver/receiver.c');
  const mode = pinned ? 'poll' : 'discard';
  const receiver = await startReceiver(program ? [program, mode] : nodeReceiver('discard'));
  return {
    ...receiver,
    host: '127.0.0.1',
    missing: missing && `the receiver in C, so Node.js receives (${missing})`,
  };
}
