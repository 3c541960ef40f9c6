import { type ChildProcess, execFile, fork } from 'node:child_process';
import { once } from 'node:events';
import * as fs from 'node:fs';
import * as http from 'node:http';
import * as path from 'node:path';
import { createInterface } from 'node:readline';
import { pathToFileURL } from 'node:url';
import { expect } from 'vitest';
import { pattern, scratchRoot } from './files';
import { foreignEnvironment } from './sanitizers';
import { receive } from './sockets';

/** What became of a stream that a server has read a file by. */
export interface Served {
  bytesRead: number;
  backend?: string;
  fallback?: { code: string; message: string; at: number };
}

export interface Server {
  port: number;
  origin: string;
  pid: number;
  /** The streams since the last call, once all of them are closed. */
  streams(): Promise<Served[]>;
  /** Ends it; fails if it has ended before, or written anything to stderr. */
  stop(): Promise<void>;
}

/** A server of test/programs/servers in a process of its own, with or without `zerocopy/register`. */
export async function startServer(
  program: string,
  args: string[],
  { register = true }: { register?: boolean } = {},
): Promise<Server> {
  const recorder = pathToFileURL(path.resolve('test/programs/recorder.mjs')).href;
  const execArgv = [...(register ? ['--import', 'zerocopy/register'] : []), '--import', recorder];
  const child = fork(path.resolve('test/programs/servers', program), args, {
    execArgv,
    stdio: ['ignore', 'pipe', 'pipe', 'ipc'],
  });
  let stderr = '';
  child.stderr?.on('data', (text) => {
    stderr += text;
  });
  const port = await firstLine(child, () => stderr);
  return {
    port: Number(port),
    origin: `http://127.0.0.1:${port}`,
    pid: child.pid as number,
    streams: async () => {
      const answer = once(child, 'message') as Promise<[{ streams: Served[] }]>;
      child.send('streams');
      const [{ streams }] = await answer;
      return streams;
    },
    stop: async () => {
      const ended = child.exitCode ?? child.signalCode;
      if (ended === null) {
        const closed = once(child, 'close');
        child.kill('SIGKILL');
        await closed;
      }
      expect({ ended, stderr }).toEqual({ ended: null, stderr: '' });
    },
  };
}

/** A server prints its port when it listens. */
async function firstLine(child: ChildProcess, stderr: () => string): Promise<string> {
  if (!child.stdout) throw new Error('no stdout');
  const lines = createInterface(child.stdout);
  return await new Promise((resolve, reject) => {
    lines.once('line', resolve);
    child.once('error', reject);
    child.once('close', (code, signal) => {
      reject(new Error(`The server ended with ${code ?? signal}: ${stderr()}`));
    });
  });
}

export interface Answer {
  status: number;
  /** As they came: names and values in turn. */
  rawHeaders: string[];
  headers: http.IncomingHttpHeaders;
  body: Buffer;
}

interface RequestOptions {
  method?: string;
  headers?: http.OutgoingHttpHeaders;
  agent?: http.Agent;
}

/** Asks for a path as it is: nothing in it is resolved or encoded. */
export async function request(
  { port }: { port: number },
  path: string,
  { method = 'GET', headers = {}, agent }: RequestOptions = {},
): Promise<Answer> {
  const asked = http.request({
    host: '127.0.0.1',
    port,
    path,
    method,
    headers,
    ...(agent && { agent }),
  });
  asked.end();
  const [response] = (await once(asked, 'response')) as [http.IncomingMessage];
  const body = await receive(response);
  const { statusCode: status = 0, rawHeaders } = response;
  return { status, rawHeaders, headers: response.headers, body };
}

/** What two servers of the same files must agree on: all but the time of day. */
export function comparable({ status, rawHeaders, body }: Answer) {
  const headers = rawHeaders.map((text, i) => (rawHeaders[i - 1] === 'Date' ? 'now' : text));
  return { status, headers, body: body.toString('base64') };
}

export const sizes = [0, 1, 1000, 64 * 1024 + 1, 3 * 1024 * 1024];

export interface Site {
  /** What is served. */
  root: string;
  /** Content of what is, by name. */
  files: Map<string, Buffer>;
  remove(): void;
}

export const SECRET = 'what lies beside the root, and is nobody’s business';

/** A folder of files of all sizes, named by them, beside a file that must not be served. */
export function makeSite(): Site {
  const folder = fs.mkdtempSync(path.join(scratchRoot, 'site-'));
  const root = path.join(folder, 'public');
  fs.mkdirSync(root);
  fs.writeFileSync(path.join(folder, 'secret'), SECRET);
  const files = new Map(sizes.map((size) => [`${size}.bin`, pattern(size, size + 1)]));
  for (const [name, content] of files) fs.writeFileSync(path.join(root, name), content);
  return { root, files, remove: () => fs.rmSync(folder, { recursive: true, force: true }) };
}

/** What curl writes to stdout; fails as curl does. */
export function curl(...args: string[]): Promise<Buffer> {
  return new Promise((resolve, reject) => {
    const encoding = 'buffer' as const;
    const options = { encoding, maxBuffer: 64 * 1024 * 1024, env: foreignEnvironment() };
    execFile('curl', ['--silent', '--show-error', ...args], options, (error, stdout, stderr) => {
      if (error) reject(new Error(`${error.message}\n${stderr}`));
      else resolve(stdout);
    });
  });
}
