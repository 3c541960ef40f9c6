// npm run demo: the same file sent by streams and by transfer(), side by side.
import { createHash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import path from 'node:path';
import { startDiscardingReceiver } from './lib/discard.mjs';
import { describeMachine, machineLine } from './lib/machine.mjs';
import { runInOwnNetwork } from './lib/own-network.mjs';
import { nodeReceiver, nodeTrial, runTrial, startReceiver } from './lib/processes.mjs';
import { runRounds } from './lib/rounds.mjs';
import { MiB, makeFile, makeResident, makeScratch } from './lib/scratch.mjs';
import { waysTable } from './report/text.mjs';

const SIZE = 1024 * MiB;
const ROUNDS = 3;
const WAYS = ['pipe', 'pipe-1m', 'transfer'];

/** @param {string} file */
async function sha256Of(file) {
  const sha256 = createHash('sha256');
  for await (const chunk of createReadStream(file, { highWaterMark: MiB })) sha256.update(chunk);
  return sha256.digest('hex');
}

/** What each way takes. The receiver only discards, so that the sender is what is measured. */
async function measure(file, warmUp) {
  const receiver = await startDiscardingReceiver();
  if (receiver.missing) console.log(`Not there: ${receiver.missing}.`);
  const ways = await runRounds({
    ways: WAYS,
    rounds: ROUNDS,
    log: () => {},
    runTrial: async (way) => {
      const parameters = { way, port: receiver.port, files: [file], warmUp };
      makeResident(file);
      const trial = await runTrial(nodeTrial('send.mjs', parameters));
      return { ...trial, megabytesPerSecond: trial.bytes / trial.seconds / 1e6 };
    },
  });
  await receiver.stop();
  return ways;
}

/** What arrives by each way, as another process sees it. */
async function receivedHashes(file, warmUp) {
  const receiver = await startReceiver(nodeReceiver('sha256'));
  const hashes = [];
  for (const way of WAYS) {
    await runTrial(nodeTrial('send.mjs', { way, port: receiver.port, files: [file], warmUp }));
    await receiver.next(); // the warm-up's
    const { sha256 } = await receiver.next();
    hashes.push(sha256);
  }
  await receiver.stop();
  return hashes;
}

/** @param {Awaited<ReturnType<typeof measure>>} ways */
function gain(ways) {
  if (ways.transfer.backend === 'stream') {
    return 'Nothing is gained here: transfer() went by streams too.';
  }
  const times = (way, figure) => {
    const ratio = ways[way].figures[figure].median / ways.transfer.figures[figure].median;
    return `${ratio.toFixed(ratio < 10 ? 1 : 0)} times`;
  };
  return [
    `pipe() took ${times('pipe', 'cpuSeconds')} the process CPU of transfer()`,
    `(${times('pipe-1m', 'cpuSeconds')} with chunks of 1 MiB) and ${times('pipe', 'seconds')} the time`,
    `(${times('pipe-1m', 'seconds')}).\nIt kept the JavaScript thread busy for`,
    `${times('pipe', 'jsThreadSeconds')} as long (${times('pipe-1m', 'jsThreadSeconds')}): the kernel`,
    'moved the bytes, and JavaScript handled none of them.',
  ].join(' ');
}

async function main() {
  const machine = describeMachine();
  console.log(`${machineLine(machine)}\n`);
  if (!machine.capabilities.native) {
    console.log(`The addon is not loaded: ${machine.capabilities.reason}.`);
    console.log('transfer() works all the same, through streams.\n');
  }
  const scratch = makeScratch();
  console.log(`Making a file of ${SIZE / MiB} MiB in ${scratch} …`);
  const file = makeFile(path.join(scratch, 'file'), SIZE);
  const warmUp = makeFile(path.join(scratch, 'warm-up'), 16 * MiB);
  const expected = await sha256Of(file);

  console.log(`Sending it ${ROUNDS} times each way to a process that discards it …`);
  const ways = await measure(file, warmUp);
  console.log('Sending it once each way to a process that hashes it …\n');
  const hashes = await receivedHashes(file, warmUp);

  const verdicts = hashes.map((hash) => (hash === expected ? 'same' : 'DIFFERENT'));
  const inOrder = Object.fromEntries(WAYS.map((way) => [way, ways[way]]));
  const lastColumn = ['SHA-256', ...verdicts];
  console.log(waysTable(inOrder, { spread: false, omit: ['loopUtilization'], lastColumn }));
  console.log(
    [
      '',
      `Figures: the sending process, medians of ${ROUNDS}, to the receiver that discards.`,
      'SHA-256: what the receiver that hashes got, compared with the file itself:',
      expected,
      '',
      gain(ways),
    ].join('\n'),
  );
  if (verdicts.includes('DIFFERENT')) process.exitCode = 1;
}

try {
  const status = await runInOwnNetwork();
  if (status === undefined) await main();
  else process.exitCode = status;
} catch (error) {
  console.error(error.message);
  process.exit(1);
}
