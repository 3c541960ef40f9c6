// examples/connect-proxy.mjs, as curl and others use it.
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import * as fs from 'node:fs';
import * as http from 'node:http';
import * as https from 'node:https';
import * as net from 'node:net';
import * as path from 'node:path';
import { createInterface } from 'node:readline';
import { describe, expect, onTestFinished, test } from 'vitest';
import { pattern, scratchFolder } from './helpers/files';
import { expectSame } from './helpers/http';
import { sleep, until } from './helpers/process';
import { closed, fate, listenOnce, readToEnd } from './helpers/relay';
import { curl } from './helpers/servers';
import { listenOnPort, receiveBytes } from './helpers/sockets';
import { certificate } from './helpers/tls';

const MIB = 1024 * 1024;

interface Proxy {
  child: ChildProcess;
  port: number;
  /** What it has logged. */
  log: string[];
  ended: Promise<unknown[]>;
}

async function startProxy(...args: string[]): Promise<Proxy> {
  const program = path.resolve('examples/connect-proxy.mjs');
  const child = spawn(process.execPath, [program, '0', ...args], {
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  const ended = once(child, 'exit');
  onTestFinished(() => {
    child.kill('SIGKILL');
  });
  const log: string[] = [];
  createInterface(child.stderr).on('line', (line) => log.push(line));
  const [line] = await Promise.race([
    once(createInterface(child.stdout), 'line'),
    ended.then(() => expect.unreachable(`the proxy ended: ${log.join('\n')}`)),
  ]);
  expect(line).toMatch(/^\d+$/);
  return { child, port: Number(line), log, ended };
}

/** An HTTPS server for `localhost` that gives `content`, or what is posted to it. */
async function startOrigin(content: Buffer) {
  const cert = path.join(scratchFolder(), 'cert'); // for curl
  fs.writeFileSync(cert, certificate().cert);
  const server = https.createServer(certificate(), (request, response) => {
    if (request.method === 'POST') request.pipe(response);
    else response.end(content);
  });
  onTestFinished(() => {
    server.close();
    server.closeAllConnections();
  });
  const port = await listenOnPort(server);
  return { origin: `https://localhost:${port}`, port, cert, server };
}

/** curl through a proxy, also where the environment says that none is to be used. */
const curlBy = ({ port }: Proxy, ...args: string[]) =>
  curl('--proxy', `http://127.0.0.1:${port}`, '--noproxy', '', ...args);

function client({ port }: Proxy): net.Socket {
  const socket = net.connect({ port, host: '127.0.0.1', allowHalfOpen: true });
  socket.pause();
  socket.on('error', () => {});
  onTestFinished(() => {
    socket.destroy();
  });
  return socket;
}

const ESTABLISHED = 'HTTP/1.1 200 Connection established\r\n\r\n';

/** A tunnel from a client to a peer, both plain. */
async function openTunnel(proxy: Proxy, early = '') {
  const upstream = await listenOnce('tcp');
  const { port } = upstream.address as net.TcpNetConnectOpts;
  const socket = client(proxy);
  socket.write(`CONNECT 127.0.0.1:${port} HTTP/1.1\r\nHost: h\r\n\r\n${early}`);
  const peer = await upstream.accepted;
  peer.pause();
  peer.on('error', () => {});
  expect((await receiveBytes(socket, ESTABLISHED.length)).toString()).toBe(ESTABLISHED);
  return { socket, peer, authority: `127.0.0.1:${port}` };
}

const logged = ({ log }: Proxy, lines = 1) => until(() => log.length >= lines, 'it is logged');

describe('HTTPS by curl', () => {
  test('GET of several MiB, by splice', async () => {
    const content = pattern(9 * MIB + 3);
    const { origin, cert, port } = await startOrigin(content);
    const proxy = await startProxy('--verbose');
    expectSame(await curlBy(proxy, '--cacert', cert, `${origin}/`), content);
    await logged(proxy);
    expect(proxy.log).toHaveLength(1);
    const [, up, down] =
      proxy.log[0]?.match(`^localhost:${port}: (\\d+) bytes up, (\\d+) down by splice$`) ?? [];
    expect(Number(up)).toBeGreaterThan(300);
    // As TLS records.
    expect(Number(down)).toBeGreaterThan(content.length);
    expect(Number(down)).toBeLessThan(content.length * 1.01);
  });

  test('POST, whose answer is what was posted', async () => {
    const content = pattern(5 * MIB + 1, 2);
    const { origin, cert } = await startOrigin(Buffer.alloc(0));
    const proxy = await startProxy('--verbose');
    const file = path.join(scratchFolder(), 'posted');
    fs.writeFileSync(file, content);
    const args = ['--cacert', cert, '--data-binary', `@${file}`, `${origin}/`];
    expectSame(await curlBy(proxy, ...args), content);
    await logged(proxy);
    expect(proxy.log[0]).toMatch(/ by splice$/);
  });

  test('two requests in one tunnel, twelve tunnels at once', async () => {
    const content = pattern(MIB + 1, 3);
    const { origin, cert } = await startOrigin(content);
    const proxy = await startProxy('--verbose');
    const twice = [`${origin}/1`, `${origin}/2`];
    const answers = await Promise.all(
      Array.from({ length: 12 }, () => curlBy(proxy, '--cacert', cert, ...twice)),
    );
    for (const answer of answers) expectSame(answer, Buffer.concat([content, content]));
    await logged(proxy, 12);
    // curl may have bytes unread when it closes, which is a reset.
    const line = / by splice(, then .*(ECONNRESET|EPIPE))?$/;
    expect(proxy.log.filter((text) => !line.test(text))).toEqual([]);
    expect(proxy.log).toHaveLength(12);
  });

  test('without --verbose it says nothing', async () => {
    const { origin, cert } = await startOrigin(Buffer.from('hello'));
    const proxy = await startProxy();
    expect((await curlBy(proxy, '--cacert', cert, origin)).toString()).toBe('hello');
    proxy.child.kill('SIGTERM');
    expect(await proxy.ended).toEqual([0, null]);
    expect(proxy.log).toEqual([]);
  });
});

describe('plain tunnels', () => {
  test('bytes sent without waiting, a greeting, and half-closes', async () => {
    const proxy = await startProxy('--verbose');
    const { socket, peer, authority } = await openTunnel(proxy, 'early ');
    peer.write('greeting');
    expect((await receiveBytes(socket, 8)).toString()).toBe('greeting');
    socket.end('late');
    expect((await readToEnd(peer)).toString()).toBe('early late');
    const answer = pattern(3 * MIB, 4);
    const answered = readToEnd(socket);
    await sleep(50);
    peer.end(answer);
    expectSame(await answered, answer);
    await logged(proxy);
    expect(proxy.log).toEqual([`${authority}: 10 bytes up, ${3 * MIB + 8} down by splice`]);
  });

  test.each(['client', 'upstream'])('a reset by the %s', async (who) => {
    const proxy = await startProxy('--verbose');
    const { socket, peer, authority } = await openTunnel(proxy, 'hello');
    await receiveBytes(peer, 5);
    const [breaks, other] = who === 'client' ? [socket, peer] : [peer, socket];
    const lost = fate(other);
    breaks.resetAndDestroy();
    expect(await lost).toBe('ECONNRESET');
    await logged(proxy);
    expect(proxy.log[0]).toMatch(`${authority}: 5 bytes up, 0 down by splice, then `);
    // It goes on.
    await openTunnel(proxy);
  });

  test('an idle one is closed, one that moves is not', async () => {
    const proxy = await startProxy('--verbose', '--idle', '0.3');
    const idle = await openTunnel(proxy);
    const moving = await openTunnel(proxy);
    const lost = fate(idle.socket);
    for (let i = 0; i < 20; i++) {
      moving.peer.write('.');
      await receiveBytes(moving.socket, 1);
      await sleep(50);
    }
    expect(['ECONNRESET', 'end']).toContain(await lost);
    expect(proxy.log.filter((line) => line.startsWith(`${idle.authority}:`))).toHaveLength(1);
    expect(proxy.log[0]).toMatch(/, then .*idle/);
    expect(proxy.log).toHaveLength(1);
  });
});

describe('what it refuses', () => {
  test.each([
    'localhost',
    'localhost:',
    ':443',
    'localhost:0',
    'localhost:65536',
    'localhost:443x',
    'localhost:+443',
    'localhost:4 43',
    'localhost:443/path',
    'http://localhost:443',
    'user@localhost:443',
    'local host:443',
    'a..b\u00e4:443',
    '::1:443',
    '[::1:443',
    '[localhost]:443',
    '[127.0.0.1]:443',
    '[::1]443',
    `${'a'.repeat(254)}:443`,
  ])('CONNECT %s: 400', async (authority) => {
    const proxy = await startProxy('--verbose');
    const socket = client(proxy);
    socket.write(Buffer.from(`CONNECT ${authority} HTTP/1.1\r\nHost: h\r\n\r\n`, 'latin1'));
    expect((await readToEnd(socket)).toString()).toMatch(/^HTTP\/1\.1 400 Bad Request\r\n/);
    expect(proxy.log).toEqual([]);
  });

  test('an upstream that is not there: 502', async () => {
    const { server, address } = await listenOnce('tcp');
    const { port } = address as net.TcpNetConnectOpts;
    server.close();
    await once(server, 'close');
    const proxy = await startProxy('--verbose');
    for (const authority of [`127.0.0.1:${port}`, `localhost:${port}`, 'nowhere.invalid:443']) {
      const socket = client(proxy);
      socket.write(`CONNECT ${authority} HTTP/1.1\r\nHost: h\r\n\r\n`);
      expect((await readToEnd(socket)).toString()).toMatch(/^HTTP\/1\.1 502 Bad Gateway\r\n/);
    }
    await expect(curlBy(proxy, `https://127.0.0.1:${port}/`)).rejects.toThrow(/502/);
    await logged(proxy, 4);
    expect(proxy.log[0]).toMatch(/ECONNREFUSED/);
  });

  test('other methods: 405', async () => {
    const { port } = await startProxy();
    for (const method of ['GET', 'POST', 'OPTIONS']) {
      const asked = http.request({ port, host: '127.0.0.1', method, path: 'http://localhost/' });
      asked.end();
      const [response] = (await once(asked, 'response')) as [http.IncomingMessage];
      response.resume();
      expect([response.statusCode, response.headers.allow]).toEqual([405, 'CONNECT']);
    }
  });

  test('a client that leaves while it connects, and one that sends nonsense', async () => {
    const proxy = await startProxy('--verbose');
    const left = client(proxy);
    // An address of nobody: a connection to it hangs, or is refused at once.
    left.write('CONNECT 192.0.2.1:9 HTTP/1.1\r\nHost: h\r\n\r\n');
    await sleep(100);
    left.resetAndDestroy();
    const nonsense = client(proxy);
    nonsense.end('what is this?\r\n\r\n');
    expect((await readToEnd(nonsense)).toString()).toMatch(/^HTTP\/1\.1 400 /);
    await openTunnel(proxy);
  });
});

describe('a graceful close', () => {
  test('a tunnel that is open ends by itself, and then the proxy', async () => {
    const proxy = await startProxy('--verbose');
    const { socket, peer } = await openTunnel(proxy, 'question');
    proxy.child.kill('SIGTERM');
    await until(() => proxy.child.exitCode === null, 'it goes on');
    await sleep(100);
    const late = client(proxy);
    await closed(late);
    expect(late.errored).toMatchObject({ code: 'ECONNREFUSED' });
    const answer = pattern(MIB, 5);
    const answered = readToEnd(socket);
    peer.end(answer);
    expectSame(await answered, answer);
    socket.end();
    expect((await readToEnd(peer)).toString()).toBe('question');
    expect(await proxy.ended).toEqual([0, null]);
    expect(proxy.log).toHaveLength(1);
    expect(proxy.log[0]).toMatch(/: 8 bytes up, 1048576 down by splice$/);
  });

  test('a second signal resets it', async () => {
    const proxy = await startProxy('--verbose');
    const { socket, peer } = await openTunnel(proxy);
    const lost = [fate(socket), fate(peer)];
    proxy.child.kill('SIGINT');
    await sleep(100);
    proxy.child.kill('SIGINT');
    expect(await Promise.all(lost)).toEqual(['ECONNRESET', 'ECONNRESET']);
    expect(await proxy.ended).toEqual([0, null]);
    expect(proxy.log).toHaveLength(1);
  });
});
