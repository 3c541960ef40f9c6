// Under load: an unmodified server whose files register has go natively.
import { execFile } from 'node:child_process';
import { once } from 'node:events';
import * as fs from 'node:fs';
import * as http from 'node:http';
import * as path from 'node:path';
import { promisify } from 'node:util';
import { beforeAll, expect, test } from 'vitest';
import { sha256 } from './helpers/files';
import { until } from './helpers/process';
import { foreignEnvironment } from './helpers/sanitizers';
import { makeSite, request, type Server, type Site, sizes, startServer } from './helpers/servers';

const run = promisify(execFile);

const MIDDLE = `${64 * 1024 + 1}.bin`;

let site: Site;
beforeAll(() => {
  site = makeSite();
  // More than sockets take at once.
  fs.writeFileSync(path.join(site.root, 'huge'), '');
  fs.truncateSync(path.join(site.root, 'huge'), 64 * 1024 * 1024);
  return site.remove;
});

const descriptors = ({ pid }: Server) => fs.readdirSync(`/proc/${pid}/fd`).length;

/** Has a server serve for a test; afterwards it has as many descriptors open as before. */
async function serving(program: string, use: (server: Server) => Promise<void>) {
  const server = await startServer(program, [site.root]);
  try {
    // The first transfer that waits for its sink opens what all of them share.
    await request(server, '/huge', { agent: new http.Agent() });
    await server.streams();
    const before = descriptors(server);
    await use(server);
    await until(() => descriptors(server) <= before, 'its descriptors are closed');
  } finally {
    await server.stop();
  }
}

test('wrk for 30 s, and clients that look at what they get', { timeout: 90_000 }, async () => {
  await serving('pipe.mjs', async (server) => {
    const args = ['--threads', '2', '--connections', '32', '--duration', '30s'];
    const wrk = run('wrk', [...args, `${server.origin}/${MIDDLE}`], { env: foreignEnvironment() });
    const agent = new http.Agent({ keepAlive: true, maxSockets: 8 });
    const names = [...site.files.keys()];
    const hashes = new Map([...site.files].map(([name, content]) => [name, sha256(content)]));
    let right = 0;
    const client = async (first: number) => {
      for (let i = first; i < 1000; i += 8) {
        const name = names[i % names.length] as string;
        const { status, body } = await request(server, `/${name}`, { agent });
        expect({ name, status, hash: sha256(body) }).toEqual({
          name,
          status: 200,
          hash: hashes.get(name),
        });
        right += 1;
      }
    };
    await Promise.all(Array.from({ length: 8 }, (_, first) => client(first)));
    expect(right).toBe(1000);
    agent.destroy();

    const { stdout } = await wrk;
    expect(stdout).not.toMatch(/Socket errors|Non-2xx/);
    const [, requests = 0] = stdout.match(/(\d+) requests in/) ?? [];
    expect(Number(requests)).toBeGreaterThan(3000);
    const streams = (await server.streams()).filter(({ bytesRead }) => bytesRead > 0);
    expect(streams.length).toBeGreaterThanOrEqual(Number(requests));
    // wrk closes its connections in the middle of what it gets.
    const short = streams.filter(({ bytesRead }) => !sizes.includes(bytesRead));
    expect(short.length).toBeLessThanOrEqual(32);
    const not = streams.filter(({ backend, fallback }) => fallback || backend === 'stream');
    expect(not).toEqual([]);
  });
});

test('clients that break off', async () => {
  await serving('send.mjs', async (server) => {
    for (let round = 0; round < 100; round++) {
      const asked = http.get(`${server.origin}/huge`, { agent: false });
      const [response] = (await once(asked, 'response')) as [http.IncomingMessage];
      let got = 0;
      for await (const chunk of response) {
        got += (chunk as Buffer).length;
        if (got > 100_000) break; // which destroys it
      }
      const [stream, ...others] = await server.streams();
      expect(others).toEqual([]);
      expect(stream).toEqual({ bytesRead: expect.any(Number), backend: 'sendfile' });
      expect(stream?.bytesRead).toBeGreaterThanOrEqual(got);
    }
  });
});
