// A link of a limited rate: two network namespaces, and a pair of virtual Ethernet devices.
import { spawnSync } from 'node:child_process';
import { CONGESTION_CONTROL, congestionControl } from './own-network.mjs';
import { cores } from './processes.mjs';

const SUBNET = '192.0.2'; // for documentation (RFC 5737): there is nobody there
const DEVICE = 'eth0';
/**
 * A packet that TCP leaves to the card to cut up is one packet to tbf, of up to 64 KiB, and one larger
 * than the burst would be cut up before. Ample: while a timer is late, tokens must not be lost.
 */
const BURST = '512kb';
const LATENCY = '50ms'; // of what waits: more than TCP lets lie in a queue
const limitTo = (rate) => ['rate', rate, 'burst', BURST, 'latency', LATENCY];

let made = 0;

/**
 * Makes a network, which is removed when the process ends, if not before.
 * @param {string} rate of what the server sends, as of tc(8)
 * @returns {{ network?: import('./kafka.mjs').Network, remove?: () => void, missing?: string }}
 *   `missing` says why it can't be had
 */
export function makeNetwork(rate) {
  const name = `zerocopy-bench-${process.pid}-${++made}`;
  const [server, client] = [`${name}-server`, `${name}-client`];
  const remove = () => {
    for (const namespace of [server, client]) run('ip', 'netns', 'delete', namespace);
    process.off('exit', remove);
  };
  process.on('exit', remove);
  const missing = firstFailure([
    ['ip', 'netns', 'add', server],
    ['ip', 'netns', 'add', client],
    // Both ends have one name, each in its own namespace.
    [...within(server), 'link', 'add', DEVICE, 'type', 'veth', 'peer', DEVICE, 'netns', client],
    ...[server, client].flatMap((namespace, index) => [
      [...within(namespace), 'address', 'add', `${SUBNET}.${index + 1}/24`, 'dev', DEVICE],
      [...within(namespace), 'link', 'set', DEVICE, 'up'],
      shellIn(namespace, `echo ${congestionControl()} > ${CONGESTION_CONTROL}`),
    ]),
    [...within(server), 'link', 'set', 'lo', 'up'],
    ...(cores ? [receiveOn(server, cores.measured), receiveOn(client, cores.peer)] : []),
    ['tc', '-netns', server, 'qdisc', 'add', 'dev', DEVICE, 'root', 'tbf', ...limitTo(rate)],
  ]);
  if (missing) {
    remove();
    return { missing };
  }
  const network = {
    host: `${SUBNET}.1`,
    clientHost: `${SUBNET}.2`,
    server: ['ip', 'netns', 'exec', server],
    client: ['ip', 'netns', 'exec', client],
  };
  return { network, remove };
}

/**
 * Has what arrives in a namespace be worked on by the core of whom it is for. A veth pair would leave
 * it to the sender's: whoever acknowledges would then do the server's work of sending more.
 * @param {string} namespace
 * @param {number} core
 */
function receiveOn(namespace, core) {
  const file = `/sys/class/net/${DEVICE}/queues/rx-0/rps_cpus`;
  return shellIn(namespace, `echo ${maskOf(core)} > ${file}`);
}

/** As sysfs has a set of one core: words of 32 bits, the highest first. @param {number} core */
function maskOf(core) {
  const words = Array(Math.floor(core / 32)).fill('00000000');
  return [(2 ** (core % 32)).toString(16), ...words].join(',');
}

/** @param {string} namespace */
const within = (namespace) => ['ip', '-netns', namespace];

/** @param {string} namespace @param {string} script */
const shellIn = (namespace, script) => ['ip', 'netns', 'exec', namespace, 'sh', '-c', script];

/** Runs commands up to the first that fails. @param {string[][]} commands */
function firstFailure(commands) {
  for (const command of commands) {
    const { status, error, stderr } = run(...command);
    if (error) return `${command[0]} (Debian package iproute2): ${error.message}`;
    if (status !== 0) return `${command.join(' ')}: ${stderr.trim()}`;
  }
  return undefined;
}

function run(file, ...args) {
  return spawnSync(file, args, { encoding: 'utf8' });
}
