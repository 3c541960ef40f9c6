// Processes that share servers and connections: node:cluster, and handles passed to a child.
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import * as http from 'node:http';
import * as net from 'node:net';
import * as path from 'node:path';
import { createInterface } from 'node:readline';
import type { Readable } from 'node:stream';
import { expect, test } from 'vitest';
import { backends } from './helpers/backends';
import { testFile } from './helpers/files';
import { runNode } from './helpers/process';

const MIB = 1024 * 1024;

test.each(backends)('%s: handles passed to a child process in mid-transfer', async (backend) => {
  const { path } = testFile(16 * MIB);
  const { code, stdout, stderr } = await runNode('fork-handles.mjs', [path, backend], {
    limitMs: 20_000,
  });
  expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
  expect(JSON.parse(stdout)).toEqual({
    passedRight: true,
    ownRight: true,
    tornRight: true,
    served: [true, true, true],
    tornEnds: 'failed',
    ways: Array(4).fill(backend === 'native' ? 'sendfile' : 'stream'),
    inherited: 0,
    code: 0,
    grown: 0,
  });
});

/**
 * 'broken': an end or a reset came before the end. 'unanswered': nothing came at all. A connection that
 * the primary has handed to a worker that was killed before it had it stays open there, and Node forgets
 * it.
 */
type Answer = 'whole' | 'broken' | 'unanswered';

const UNANSWERED_MS = 2000;
const STALLED_MS = 20_000;

/** Reads a connection, or the answer that comes on one; throws where it stalls, or is wrong. */
async function read(
  socket: net.Socket,
  source: Readable | Promise<Readable>,
  content: Buffer,
): Promise<Answer> {
  let length = 0;
  let late: Answer | Error | undefined;
  const after = (ms: number, what: Answer | Error) =>
    setTimeout(() => {
      late = what;
      socket.destroy();
    }, ms);
  let timer = after(UNANSWERED_MS, 'unanswered');
  try {
    for await (const chunk of await source) {
      clearTimeout(timer);
      timer = after(STALLED_MS, new Error(`stalled at ${length}`));
      const wanted = content.subarray(length, length + chunk.length);
      if (!wanted.equals(chunk)) late = new Error(`wrong content at ${length}`);
      length += chunk.length;
    }
    // An end that looks like one: a connection may have it, of a process that was killed.
    if (source !== socket && length < content.length) late ??= new Error(`ended at ${length}`);
  } catch {
    // Broken off, as its length tells.
  }
  clearTimeout(timer);
  if (late instanceof Error) throw late;
  return late ?? (length === content.length ? 'whole' : 'broken');
}

function get(port: number, path: string, content: Buffer): Promise<Answer> {
  const socket = net.connect(port, '127.0.0.1');
  socket.on('error', () => {});
  const request = http.get({ path, createConnection: () => socket });
  const answer = once(request, 'response').then(([response]) => response as http.IncomingMessage);
  return read(socket, answer, content);
}

function take(port: number, content: Buffer): Promise<Answer> {
  const socket = net.connect(port, '127.0.0.1');
  return read(socket, socket, content);
}

test.each(['rr', 'none'])(
  'a cluster whose workers go and come under load: %s',
  async (policy) => {
    const { path: file, content } = testFile(3 * MIB);
    const program = path.resolve('test/programs/cluster.mjs');
    const primary = spawn(process.execPath, [program, policy, file], { stdio: 'pipe' });
    const limit = setTimeout(() => primary.kill('SIGKILL'), 60_000);
    const ended = once(primary, 'close');
    let stderr = '';
    primary.stderr.on('data', (text) => {
      stderr += text;
    });
    const lines = createInterface({ input: primary.stdout })[Symbol.asyncIterator]();
    const line = async () => (await lines.next()).value as string;
    const { port, passing } = JSON.parse(await line());

    let loaded = true;
    const answers = { whole: 0, broken: 0, unanswered: 0 };
    const load = async (ask: () => Promise<Answer>) => {
      while (loaded) answers[await ask()] += 1;
    };
    const clients = Promise.all([
      ...['/transfer', '/stream', '/transfer', '/stream'].map((url) =>
        load(() => get(port, url, content)),
      ),
      load(() => take(passing, content)),
      load(() => take(passing, content)),
    ]);

    // A worker that says goodbye breaks nothing off, one that is killed does.
    const ways = ['disconnect', 'SIGKILL', 'SIGTERM'];
    for (const way of [...ways, ...ways, ...ways]) {
      const before = answers.whole;
      primary.stdin.write(`${way}\n`);
      expect(await line()).toBe('replaced');
      // The others go on meanwhile, and the new one joins them.
      while (answers.whole < before + 10) await new Promise((resolve) => setTimeout(resolve, 5));
    }
    loaded = false;
    await clients;
    for (const url of ['/transfer', '/stream']) expect(await get(port, url, content)).toBe('whole');
    primary.stdin.end();
    const { backends, grown } = JSON.parse(await line());
    const [code, signal] = await ended;
    clearTimeout(limit);
    console.log(`${policy}: ${JSON.stringify({ ...answers, backends })}`);
    expect({ code, signal, stderr }).toEqual({ code: 0, signal: null, stderr: '' });
    expect(Object.keys(backends)).toEqual(['sendfile']);
    expect(grown).toBeLessThanOrEqual(answers.unanswered);
  },
  90_000,
);
