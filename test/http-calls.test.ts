// Which system calls an answer takes, and that none of them waits for the client's acknowledgement.
import { once } from 'node:events';
import * as fs from 'node:fs';
import * as http from 'node:http';
import * as path from 'node:path';
import { describe, expect, onTestFinished, test } from 'vitest';
import { createReadStream, transfer } from 'zerocopy';
import { scratchFolder, type TestFile, testFile } from './helpers/files';
import { requestTo, serve } from './helpers/http';
import { runNode, until } from './helpers/process';
import { whyNoStrace } from './helpers/skips';
import { receive } from './helpers/sockets';

const why = whyNoStrace('-f');

const WRITING = /^(write|writev|sendto|sendmsg|sendmmsg|sendfile|splice|setsockopt)\(/;

async function ask(options: http.RequestOptions): Promise<Buffer> {
  const request = http.get(options);
  const [response] = (await once(request, 'response')) as [http.IncomingMessage];
  return receive(response);
}

/** The calls that write to the connection over which a traced server answers `target`. */
async function callsFor(file: TestFile, query: string): Promise<string[]> {
  const folder = scratchFolder();
  const portFile = path.join(folder, 'port');
  const done = runNode('http-server.mjs', [portFile, file.path], {
    wrapper: ['strace', '-ff', '-yy', '-s', '1000', '-o', path.join(folder, 'thread')],
  });
  await until(() => fs.existsSync(portFile), 'the server listens');
  const port = Number(fs.readFileSync(portFile, 'utf8'));
  const agent = new http.Agent({ keepAlive: true, maxSockets: 1 });
  onTestFinished(() => agent.destroy());
  // The first one only makes that the file is known to be in memory, and the code has run.
  for (let i = 0; i < 2; i++) {
    const body = await ask({ host: '127.0.0.1', port, agent, path: `/0${query}` });
    expect(body.equals(file.content)).toBe(true);
  }
  agent.destroy();
  await ask({ host: '127.0.0.1', port, path: '/end', agent: false }).catch(() => {});
  expect(await done).toMatchObject({ code: 0, stderr: '' });
  const lines = fs.readdirSync(folder).flatMap((name) => {
    if (!name.startsWith('thread')) return [];
    return fs.readFileSync(path.join(folder, name), 'utf8').split('\n');
  });
  const calls = lines.filter((line) => WRITING.test(line) && line.includes(`127.0.0.1:${port}->`));
  // No option of Node's own is set per answer, and none keeps packets back.
  expect(calls.filter((call) => call.includes('TCP_CORK'))).toEqual([]);
  const writes = calls.filter((call) => !call.startsWith('setsockopt'));
  const second = writes.findLastIndex(
    (call) => call.includes('"HTTP/1.1 200') && !call.includes('Content-Length: 0'),
  );
  const end = writes.findLastIndex((call) => call.includes('"HTTP/1.1 200'));
  return writes.slice(second, end > second ? end : undefined);
}

const nameOf = (call: string) => call.slice(0, call.indexOf('('));

describe.skipIf(why).each([
  ['createReadStream', ''],
  ['transfer', 'transfer'],
])('%s', (_name, way) => {
  test.each([200, 1024])(`%d bytes go with the headers, in one call${why}`, async (size) => {
    const calls = await callsFor(testFile(size), `?${way}`);
    expect(calls.map(nameOf)).toEqual(['sendmsg']);
    expect(calls[0]).toContain(`Content-Length: ${size}`);
    expect(calls[0]).not.toContain('MSG_MORE');
  });

  test(`64 KiB follow the headers, which wait for them${why}`, async () => {
    const size = 64 * 1024;
    const calls = await callsFor(testFile(size), `?${way}`);
    expect(calls.map(nameOf)).toEqual(['sendmsg', 'sendfile']);
    expect(calls[0]).toContain('MSG_MORE');
    expect(calls[1]).toContain(`= ${size}`);
  });

  test.each([200, 1024])(`chunked, %d bytes go with the headers${why}`, async (size) => {
    const calls = await callsFor(testFile(size), `?chunked&${way}`);
    expect(calls[0]).toMatch(/^sendmsg/);
    expect(calls[0]).toContain(`\\r\\n\\r\\n`);
    expect(calls.filter((call) => call.includes('HTTP/1.1'))).toHaveLength(1);
    // Beside it there is the last chunk, which comes when the stream has ended.
    expect(calls.slice(1).map(nameOf)).toEqual(['write']);
    expect(calls[1]).toContain('"0\\r\\n\\r\\n"');
  });

  test(`chunked, 64 KiB follow the headers and their size${why}`, async () => {
    const calls = await callsFor(testFile(64 * 1024), `?chunked&${way}`);
    expect(calls.map(nameOf)).toEqual(['sendmsg', 'sendfile', 'sendmsg', 'write']);
    expect(calls[0]).toContain('MSG_MORE');
    expect(calls[0]).toContain('10000\\r\\n');
    expect(calls[1]).toContain('= 65536');
    expect(calls[3]).toContain('"0\\r\\n\\r\\n"');
  });
});

const sizes = [1, 1000, 30_000, 64 * 1024 + 7, 1024 * 1024];
const ACK_DELAY_MS = 40;

describe.each([
  [
    'createReadStream',
    (file: string, response: http.ServerResponse) => {
      createReadStream(file).pipe(response);
    },
  ],
  [
    'transfer',
    (file: string, response: http.ServerResponse) => {
      transfer(file, response);
    },
  ],
] as const)('%s', (_name, send) => {
  test.each(sizes)('50 answers of %d bytes: none waits', async (size) => {
    const file = testFile(size);
    const { address } = await serve((request, response) => {
      if (request.url === '/known') response.setHeader('Content-Length', size);
      send(file.path, response);
    });
    const agent = new http.Agent({ keepAlive: true, maxSockets: 1 });
    onTestFinished(() => agent.destroy());
    for (const target of ['/known', '/chunked']) {
      const start = performance.now();
      for (let i = 0; i < 50; i++) {
        const body = await ask({ ...requestTo(address), agent, path: target });
        expect(body.equals(file.content)).toBe(true);
      }
      expect(performance.now() - start).toBeLessThan(50 * ACK_DELAY_MS);
    }
  });
});
