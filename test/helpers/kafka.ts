import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import * as fs from 'node:fs';
import * as path from 'node:path';
import { createInterface } from 'node:readline';
import { setImmediate } from 'node:timers/promises';
import { crc32c } from '@node-rs/crc32';
import { expect, onTestFinished } from 'vitest';
import { scratchFolder } from './files';
import { foreignEnvironment } from './sanitizers';

/** A line of the broker's log: what it has answered. */
interface Answer {
  api: 'produce' | 'fetch';
  /** Of a produce. */
  topic?: string | undefined;
  partition?: number;
  offset?: number;
  error?: string;
  /** Of record batches. */
  bytes: number;
  /** Of a fetch. */
  partitions?: number;
  backend?: string | undefined;
}

export interface Broker {
  child: ChildProcess;
  port: number;
  address: string;
  /** Of its log. */
  folder: string;
  /** What it has printed before it listened, its first line and what follows. */
  greeting: string[];
  /** What it has written to stderr, by lines. */
  log: string[];
  answers(): Answer[];
  produced(topic?: string): Answer[];
  /** Fetches that were answered with records. */
  fetched(): Answer[];
  /** How many it has. */
  descriptors(): number;
  /** Sockets among them, with that it listens on, and what its output goes to. */
  sockets(): number;
  /** By SIGTERM, unless told otherwise; fails unless it ends with code 0. */
  stop(signal?: NodeJS.Signals): Promise<void>;
  /** By SIGKILL. */
  kill(): Promise<void>;
}

export const program = path.resolve('examples/kafka-log/main.mjs');

/**
 * The broker as a process of its own, on a folder that goes with the test, unless `--data` is among
 * `args`, and on any port, unless `args` begin with one.
 */
export const startBroker = (...args: string[]) => startBrokerWith({}, ...args);

interface StartOptions {
  env?: NodeJS.ProcessEnv;
  /** A program that runs it. */
  wrapper?: string[];
  /** Lets it make its own folder. */
  temporary?: boolean;
}

export async function startBrokerWith(
  { env = {}, wrapper = [], temporary = false }: StartOptions,
  ...args: string[]
): Promise<Broker> {
  const given = temporary || args.includes('--data');
  const folder = given ? [] : ['--data', path.join(scratchFolder(), 'log')];
  const [command = '', ...rest] = [
    ...wrapper,
    process.execPath,
    program,
    ...(/^\d+$/.test(args[0] ?? '') ? [] : ['0']),
    ...args,
    '--verbose',
    ...folder,
  ];
  const child = spawn(command, rest, {
    env: { ...process.env, ...env },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  // 'close' comes when all that it has logged has been read.
  const ended = once(child, 'close') as Promise<[number | null, NodeJS.Signals | null]>;
  const kill = async () => {
    child.kill('SIGKILL');
    await ended;
  };
  onTestFinished(kill);
  const log: string[] = [];
  createInterface(child.stderr).on('line', (line) => log.push(line));
  const greeting: string[] = [];
  const lines = createInterface(child.stdout).on('line', (line) => greeting.push(line));
  await Promise.race([
    once(lines, 'line'),
    ended.then(() => expect.unreachable(`the broker ended: ${log.join('\n')}`)),
  ]);
  const listens = /listens on ([\d.]+:(\d+)), its log is in (.+)$/.exec(greeting[0] ?? '');
  if (!listens) throw new Error(`The broker says: ${greeting[0]}`);
  const [, address = '', port, data = ''] = listens;
  const answers = () => log.flatMap((line) => parseAnswer(line) ?? []);
  return {
    child,
    port: Number(port),
    address,
    folder: data,
    greeting,
    log,
    answers,
    produced: (topic) =>
      answers().filter((a) => a.api === 'produce' && (topic === undefined || a.topic === topic)),
    fetched: () => answers().filter((answer) => answer.api === 'fetch' && answer.bytes > 0),
    descriptors: () => descriptorsOf(child).length,
    sockets: () => descriptorsOf(child).filter((what) => what.startsWith('socket:')).length,
    kill,
    stop: async (signal = 'SIGTERM') => {
      child.kill(signal);
      expect(await ended).toEqual([0, null]);
    },
  };
}

/** What a process has open. */
function descriptorsOf({ pid }: ChildProcess): string[] {
  return fs.readdirSync(`/proc/${pid}/fd`).flatMap((fd) => {
    try {
      return [fs.readlinkSync(`/proc/${pid}/fd/${fd}`)];
    } catch {
      return []; // closed since
    }
  });
}

function parseAnswer(line: string): Answer | undefined {
  const produce = /^produce (.+)-(\d+): (?:(\d+) bytes at offset (\d+) by (\w+)|([A-Z_]+))/.exec(
    line,
  );
  if (produce) {
    const [, topic, partition, bytes, offset, backend, error] = produce;
    const at = { api: 'produce' as const, topic, partition: Number(partition) };
    if (error !== undefined) return { ...at, bytes: 0, error };
    return { ...at, bytes: Number(bytes), offset: Number(offset), backend };
  }
  const fetch = /^fetch: (\d+) bytes(?: in (\d+) partitions?)?(?: by (\w+))?$/.exec(line);
  if (!fetch) return undefined;
  const [, bytes, partitions, backend] = fetch;
  return { api: 'fetch', bytes: Number(bytes), partitions: Number(partitions ?? 0), backend };
}

interface KcatOptions {
  /** What its stdin is; nothing, if nothing is said. */
  input?: string;
  /** A file that its stdout goes to. */
  to?: string;
}

export interface Kcat {
  child: ChildProcess;
  /** What it has written so far, unless to a file. */
  stdout(): Buffer;
  stderr(): string;
  /** Its exit code, once all has been read. */
  ended: Promise<number | null>;
}

/** kcat, on its own. */
export function startKcat(
  { address }: { address: string },
  args: string[],
  { input, to }: KcatOptions = {},
): Kcat {
  const output = to === undefined ? undefined : fs.openSync(to, 'w');
  const child = spawn('kcat', ['-b', address, ...args], {
    env: foreignEnvironment(),
    stdio: [input === undefined ? 'ignore' : 'pipe', output ?? 'pipe', 'pipe'],
  });
  if (output !== undefined) fs.closeSync(output);
  child.stdin?.end(input);
  onTestFinished(() => {
    child.kill('SIGKILL');
  });
  const chunks: Buffer[] = [];
  child.stdout?.on('data', (chunk: Buffer) => chunks.push(chunk));
  let stderr = '';
  child.stderr?.on('data', (text) => {
    stderr += text;
  });
  const ended = once(child, 'close').then(([code]) => code as number | null);
  return { child, stdout: () => Buffer.concat(chunks), stderr: () => stderr, ended };
}

/** Runs kcat to its end; what it writes to stdout. Fails as it does. */
export async function kcat(
  broker: { address: string },
  args: string[],
  options?: KcatOptions,
): Promise<Buffer> {
  const { ended, stdout, stderr } = startKcat(broker, args, options);
  const code = await ended;
  await setImmediate(); // what the broker has logged meanwhile has been read by then
  if (code !== 0) throw new Error(`kcat ${args.join(' ')} ended with ${code}: ${stderr()}`);
  return stdout();
}

export const codecs = ['none', 'gzip', 'snappy', 'lz4', 'zstd'] as const;

/** A record batch as it is on disk. */
export interface Batch {
  /** Name of its segment, and where in it. */
  segment: string;
  position: number;
  bytes: Buffer;
  baseOffset: number;
  /** Of records. */
  count: number;
  codec: (typeof codecs)[number];
}

/**
 * All batches of a partition, by its segments. Fails unless they are a clean log: offsets without
 * gaps, segments named by them, every CRC right, and nothing else.
 */
export function readLog({ folder }: { folder: string }, topic: string, partition = 0): Batch[] {
  const root = path.join(folder, `${topic}-${partition}`);
  const segments = fs.readdirSync(root).filter((name) => name.endsWith('.log'));
  const batches: Batch[] = [];
  let next = 0;
  for (const segment of segments.sort()) {
    expect(segment).toBe(`${String(next).padStart(20, '0')}.log`);
    const content = fs.readFileSync(path.join(root, segment));
    for (let position = 0; position < content.length; ) {
      const length = 12 + content.readInt32BE(position + 8);
      const bytes = content.subarray(position, position + length);
      expect({ segment, position, length: bytes.length }).toEqual({ segment, position, length });
      const baseOffset = Number(bytes.readBigInt64BE(0));
      const [magic, crc, attributes] = [bytes[16], bytes.readUInt32BE(17), bytes.readInt16BE(21)];
      const [lastDelta, count] = [bytes.readInt32BE(23), bytes.readInt32BE(57)];
      expect({ position, baseOffset, magic, crc, count }).toEqual({
        position,
        baseOffset: next,
        magic: 2,
        crc: crc32c(bytes.subarray(21)),
        count: lastDelta + 1,
      });
      const codec = codecs[attributes & 7] ?? 'none';
      batches.push({ segment, position, bytes, baseOffset, count, codec });
      next += count;
      position += length;
    }
  }
  return batches;
}
