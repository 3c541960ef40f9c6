// What this machine can do, and why not: gathered, tried, and put into words.
import { once } from 'node:events';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import * as net from 'node:net';
import * as os from 'node:os';
import * as path from 'node:path';
import { capabilities } from './capabilities';
import { copyFile } from './copy-file';
import { addon } from './native';
import type { Backend, Fallback, TransferResult } from './options';
import { transfer } from './transfer';
import { version } from './version';

/** What `zerocopy info --json` prints. */
export interface Info {
  /** Whether all that was tried went through the kernel. */
  native: boolean;
  version: string;
  node: string;
  platform: string;
  arch: string;
  /** Of Linux: name, and glibc's version. */
  libc?: string;
  kernel: string;
  addon: {
    /** How the binary came here; `'none'` is the same as "not loaded". */
    origin: 'prebuilt' | 'compiled' | 'none';
    file?: string;
    reason?: string;
  };
  capabilities: Record<'sendfile' | 'splice' | 'copyFileRange', Capability>;
  /** Native threads that move bytes. */
  movers: number;
  /** Why there are none. */
  moversReason?: string;
  /** Of the variables that matter those that are set. */
  environment: Record<string, string>;
  trials: Trial[];
}

interface Capability {
  available: boolean;
  reason?: string;
}

/** A transfer that was tried. */
interface Trial {
  name: 'file to socket' | 'file to file';
  /** Whether all bytes came through as they were. */
  works: boolean;
  transferred?: number;
  backend?: Backend;
  fallback?: Fallback;
  error?: string;
}

const VARIABLES = ['ZEROCOPY_BACKEND', 'ZEROCOPY_THREADS', 'NODE_DEBUG'];
/** More than goes by one read and one write. */
const TRIAL_BYTES = 1024 * 1024;

export async function gatherInfo(): Promise<Info> {
  const trials = await tryAll();
  const { reason, movers, kernel, ...can } = capabilities(); // of movers that have started
  const libc = nameOfLibc();
  const capability = (available: boolean): Capability => {
    if (available) return { available };
    return { available, reason: addon.native ? REFUSED : addon.reason };
  };
  return {
    native: trials.every(({ works, backend }) => works && backend !== 'stream'),
    version,
    node: process.version,
    platform: process.platform,
    arch: process.arch,
    ...(libc !== undefined && { libc }),
    kernel,
    addon: addon.native
      ? { origin: isPrebuilt(addon.file) ? 'prebuilt' : 'compiled', file: addon.file }
      : { origin: 'none', reason: addon.reason },
    capabilities: {
      sendfile: capability(can.sendfile),
      splice: capability(can.splice),
      copyFileRange: capability(can.copyFileRange),
    },
    movers,
    ...(movers === 0 && reason !== undefined && { moversReason: reason }),
    environment: environment(),
    trials,
  };
}

const REFUSED = 'the kernel, or a seccomp profile, refuses it';

function environment(): Info['environment'] {
  const set: Info['environment'] = {};
  for (const name of VARIABLES) {
    const value = process.env[name];
    if (value !== undefined) set[name] = value;
  }
  return set;
}

/** Where prebuildify puts binaries. */
function isPrebuilt(file: string): boolean {
  return file.split(path.sep).includes('prebuilds');
}

function nameOfLibc(): string | undefined {
  if (process.platform !== 'linux') return undefined;
  const { header } = process.report.getReport() as { header: { glibcVersionRuntime?: string } };
  return header.glibcVersionRuntime ? `glibc ${header.glibcVersionRuntime}` : 'musl';
}

async function tryAll(): Promise<Trial[]> {
  const folder = await mkdtemp(path.join(os.tmpdir(), 'zerocopy-'));
  try {
    const content = Buffer.alloc(TRIAL_BYTES, 'zerocopy');
    const file = path.join(folder, 'source');
    await writeFile(file, content);
    return [
      await tryOne('file to socket', content, () => sendToSocket(file)),
      await tryOne('file to file', content, () => copy(file, path.join(folder, 'sink'))),
    ];
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

interface Arrived {
  result: TransferResult;
  received: Buffer;
}

async function tryOne(
  name: Trial['name'],
  content: Buffer,
  run: () => Promise<Arrived>,
): Promise<Trial> {
  try {
    const { result, received } = await run();
    if (received.equals(content)) return { name, works: true, ...result };
    return { name, works: false, ...result, error: 'what arrived is not what was sent' };
  } catch (error) {
    return { name, works: false, error: (error as Error).message };
  }
}

async function sendToSocket(file: string): Promise<Arrived> {
  const server = net.createServer().listen(0, '127.0.0.1');
  try {
    await once(server, 'listening');
    const { port } = server.address() as net.AddressInfo;
    const sink = net.connect(port, '127.0.0.1');
    const met = Promise.all([once(server, 'connection'), once(sink, 'connect')]);
    const [[peer]] = (await met) as [[net.Socket], unknown];
    const [result, received] = await Promise.all([
      transfer(file, sink, { endSink: true }),
      receiveAll(peer),
    ]);
    return { result, received };
  } finally {
    server.close();
  }
}

async function receiveAll(peer: net.Socket): Promise<Buffer> {
  const chunks: Buffer[] = [];
  for await (const chunk of peer) chunks.push(chunk as Buffer);
  return Buffer.concat(chunks);
}

async function copy(from: string, to: string): Promise<Arrived> {
  const result = await copyFile(from, to);
  return { result, received: await readFile(to) };
}

// In words.

export function describe(info: Info): string {
  const { libc, addon, environment, movers, moversReason } = info;
  const where = `${info.platform}-${info.arch}${libc === undefined ? '' : `, ${libc}`}`;
  const { sendfile, splice, copyFileRange } = info.capabilities;
  const lines = [
    ['zerocopy', info.version],
    ['Node.js', `${info.node}, ${where}`],
    ['kernel', info.kernel],
    [
      'addon',
      addon.file === undefined ? `none: ${addon.reason}` : `${addon.origin}: ${addon.file}`,
    ],
    ['sendfile', inWords(sendfile)],
    ['splice', inWords(splice)],
    ['copy_file_range', inWords(copyFileRange)],
    ['movers', moversReason === undefined ? `${movers}` : `${movers}: ${moversReason}`],
    ...VARIABLES.map((name) => [name, environment[name] ?? 'not set']),
    ...info.trials.map((trial) => [trial.name, outcomeOf(trial)]),
  ];
  const width = Math.max(...lines.map(([name = '']) => name.length)) + 2;
  const table = lines.map(([name = '', text]) => `${name.padEnd(width)}${text}\n`).join('');
  return `${table}\n${verdict(info)}\n`;
}

function inWords({ available, reason }: Capability): string {
  return available ? 'yes' : `no: ${reason}`;
}

function outcomeOf({ works, transferred, backend, fallback, error }: Trial): string {
  if (!works) return `failed: ${error}`;
  const why = fallback ? ` (${fallback.code}: ${fallback.message})` : '';
  return `${transferred} bytes by ${backend}${why}`;
}

function verdict({ native, trials }: Info): string {
  if (native) return 'Bytes go through the kernel.';
  if (trials.some(({ works }) => !works)) return 'It does not work here.';
  const all = trials.every(({ backend }) => backend === 'stream');
  return all ? 'It works through streams only.' : 'It works, but not all goes through the kernel.';
}
