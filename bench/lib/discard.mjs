import { compile } from './compile.mjs';
import { nodeReceiver, pinned, startReceiver } from './processes.mjs';

/** Starts the cheapest receiver there is. `missing` says why, where it isn't the one in C. */
export async function startDiscardingReceiver() {
  const { program, missing } = compile('bench/receiver/receiver.c');
  const mode = pinned ? 'poll' : 'discard';
  const receiver = await startReceiver(program ? [program, mode] : nodeReceiver('discard'));
  return { ...receiver, missing: missing && `the receiver in C, so Node.js receives (${missing})` };
}
