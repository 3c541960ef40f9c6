// The system calls of a large file, and the bytes that they copy into the process and out of it: by
// strace(1), of all threads. Those of a small file are taken off, and with them those of the start.
import { createReadStream, rmSync } from 'node:fs';
import path from 'node:path';
import { createInterface } from 'node:readline';
import { checkTargets } from '../lib/checks.mjs';
import { compile } from '../lib/compile.mjs';
import { startDiscardingReceiver } from '../lib/discard.mjs';
import { find } from '../lib/peers.mjs';
import { nodeTrial, runToEnd } from '../lib/processes.mjs';
import { runRounds } from '../lib/rounds.mjs';
import { GiB, MiB, makeFile } from '../lib/scratch.mjs';

export const name = 'syscalls';

const SMALL_BYTES = 16 * MiB;
const READS = new Set(['read', 'pread64', 'readv', 'preadv', 'preadv2', 'recvfrom', 'recvmsg']);
const WRITES = new Set(['write', 'pwrite64', 'writev', 'pwritev', 'sendto', 'sendmsg']);
const TARGETS = [
  { what: 'system calls, to pipe()', figure: 'callsPerGiB', to: 'pipe', atMost: 1 / 10 },
  {
    what: 'bytes copied per byte, more than none',
    figure: 'copiedPerByte',
    to: 'sendfile-c',
    atMost: 0.001,
    difference: true,
  },
];

/** @param {import('../run.mjs').Context} context */
export async function run({ scratch, quick, log }) {
  const size = quick ? 256 * MiB : GiB;
  const title = `system calls for a file of ${size / MiB} MiB, and bytes copied through the process`;
  const strace = find('strace');
  const peer = compile('bench/peers/sendfile.c');
  const missing = [strace.missing, peer.missing].filter(Boolean);
  if (strace.missing) return { name, title, rounds: 1, ways: {}, checks: [], missing };
  log('making files');
  const large = makeFile(path.join(scratch, 'syscalls-large'), size);
  const small = makeFile(path.join(scratch, 'syscalls-small'), SMALL_BYTES);
  const receiver = await startDiscardingReceiver();
  const { port } = receiver;
  const output = path.join(scratch, 'strace');

  /** What sending a file takes. */
  const count = async (way, file) => {
    const command =
      way === 'sendfile-c'
        ? [peer.program, `${port}`, file, small]
        : nodeTrial('send.mjs', { way, port, files: [file], warmUp: small });
    await runToEnd('measured', [strace.program, '-f', '-qq', '-s0', '-o', output, ...command]);
    return countCalls(output);
  };

  const ways = await runRounds({
    ways: [...(peer.program ? ['sendfile-c'] : []), 'transfer', 'pipe', 'pipe-1m'],
    rounds: 1,
    log,
    warmUp: false,
    runTrial: async (way) => {
      const [all, start] = [await count(way, large), await count(way, small)];
      const bytes = size - SMALL_BYTES;
      return {
        callsPerGiB: ((all.calls - start.calls) / bytes) * GiB,
        copiedPerByte: (all.copied - start.copied) / bytes,
      };
    },
  });
  rmSync(output, { force: true });
  await receiver.stop();
  return { name, title, rounds: 1, ways, checks: checkTargets(ways, TARGETS), missing };
}

/** @param {string} file what strace has written */
async function countCalls(file) {
  let calls = 0;
  let copied = 0;
  for await (const line of createInterface({ input: createReadStream(file) })) {
    // A call that another thread's came between has two lines; the second has the result.
    const call = /^\d+ +(?:<\.\.\. (\w+) resumed>|(\w+)\().* = (-?\d+)/.exec(line);
    if (!call) continue;
    calls += 1;
    const name = call[1] ?? call[2];
    if (READS.has(name) || WRITES.has(name)) copied += Math.max(0, Number(call[3]));
  }
  return { calls, copied };
}
