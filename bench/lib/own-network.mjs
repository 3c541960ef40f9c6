// A network namespace for all of the bench, in which TCP has Reno: BBR, which some systems have as
// their default, sets a timer for each packet. Over loopback, and most of all in a virtual machine,
// where each is an exit to the hypervisor, one would measure little but these timers.
import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';

/** Of the namespace of whoever reads it. */
export const CONGESTION_CONTROL = '/proc/sys/net/ipv4/tcp_congestion_control';

const MARK = 'ZEROCOPY_BENCH_NETWORK';
const SETUP = `ip link set lo up && echo reno > ${CONGESTION_CONTROL} && exec "$@"`;
const within = (...command) => ['--net', '--', 'sh', '-c', SETUP, 'sh', ...command];

export const isInOwnNetwork = process.env[MARK] !== undefined;

export function congestionControl() {
  try {
    return readFileSync(CONGESTION_CONTROL, 'utf8').trim();
  } catch {
    return 'unknown';
  }
}

/**
 * Runs this program again in a namespace of its own, where that is allowed and it isn't there yet.
 * @returns {Promise<number | undefined>} the status that it ended with
 */
export async function runInOwnNetwork() {
  if (isInOwnNetwork || spawnSync('unshare', within('true')).status !== 0) return undefined;
  const command = [process.execPath, ...process.execArgv, ...process.argv.slice(1)];
  const env = { ...process.env, [MARK]: 'own' };
  const child = spawn('unshare', within(...command), { stdio: 'inherit', env });
  // A terminal's SIGINT reaches the child by itself too; how it ends is the child's to tell.
  for (const signal of ['SIGINT', 'SIGTERM']) process.on(signal, () => child.kill(signal));
  const [status] = await once(child, 'exit');
  return status ?? 1;
}
