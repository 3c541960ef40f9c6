// Relays of what HTTP has given up its connections to: 'connect' and 'upgrade', with their heads.
import { once } from 'node:events';
import * as http from 'node:http';
import * as net from 'node:net';
import { beforeAll, describe, expect, onTestFinished, test } from 'vitest';
import { relay } from 'zerocopy';
import { backends } from './helpers/backends';
import { pattern } from './helpers/files';
import { expectSame, listenHttp } from './helpers/http';
import { openDescriptors, until, withResolvers } from './helpers/process';
import {
  closed,
  expectRelayed,
  fails,
  fate,
  listenOnce,
  type RelayResult,
  readToEnd,
  warmUp,
} from './helpers/relay';
import { receiveBytes } from './helpers/sockets';

const MIB = 1024 * 1024;

beforeAll(warmUp);

const portOf = (server: net.Server | http.Server) => (server.address() as net.AddressInfo).port;

/** A connection to a server of this process. */
function client(port: number): net.Socket {
  const socket = net.connect({ port, host: '127.0.0.1', allowHalfOpen: true });
  socket.on('error', () => {});
  onTestFinished(() => {
    socket.destroy();
  });
  return socket;
}

/** Reads a head, and leaves what follows it. */
async function readHead(socket: net.Socket): Promise<string> {
  let head = '';
  while (!head.endsWith('\r\n\r\n')) {
    const byte = await receiveBytes(socket, 1);
    if (byte.length === 0) throw new Error(`No head: ${head}`);
    head += byte.toString('latin1');
  }
  return head;
}

const [question, answer] = [pattern(3 * MIB + 1, 81), pattern(2 * MIB + 5, 82)];

describe.each(backends)('%s', (backend) => {
  /** A proxy; what became of its first tunnel, and its first head. */
  async function connectProxy() {
    // In an object: a promise of a promise would be awaited to the end.
    const { promise: started, resolve } = withResolvers<{ relayed: Promise<RelayResult> }>();
    const heads: number[] = [];
    const proxy = http.createServer();
    await listenHttp(proxy);
    proxy.on('connect', (request, socket, head) => {
      heads.push(head.length);
      socket.on('error', () => {});
      const upstream = net.connect(Number(request.url?.split(':')[1]), '127.0.0.1');
      upstream.on('error', () => {});
      upstream.once('connect', () => {
        socket.write('HTTP/1.1 200 Connection established\r\n\r\n');
        if (head.length > 0) socket.unshift(head);
        const relayed = relay(socket, upstream, { backend });
        relayed.catch(() => {});
        resolve({ relayed });
      });
    });
    return { port: portOf(proxy), heads, started };
  }

  test.each([0, 7, 100_000])(
    "'connect', with %i bytes in the packet of the request",
    async (early) => {
      const upstream = await listenOnce('tcp');
      const { port, heads } = await connectProxy();
      const socket = client(port);
      const { port: target } = upstream.address as net.TcpNetConnectOpts;
      const request = `CONNECT localhost:${target} HTTP/1.1\r\nHost: localhost:${target}\r\n\r\n`;
      socket.write(Buffer.concat([Buffer.from(request), question.subarray(0, early)]));
      const peer = await upstream.accepted;
      peer.write('a greeting');
      expect(await readHead(socket)).toBe('HTTP/1.1 200 Connection established\r\n\r\n');
      expect((await receiveBytes(socket, 10)).toString()).toBe('a greeting');
      expect((heads[0] ?? 0) > 0).toBe(early > 0);
      const asked = readToEnd(peer);
      const answered = readToEnd(socket);
      socket.end(question.subarray(early));
      expectSame(await asked, question);
      peer.end(answer);
      expectSame(await answered, answer);
      await closed(peer, socket);
    },
  );

  test("'connect': the counts, and a reset", async () => {
    const before = openDescriptors();
    for (const how of ['end', 'reset']) {
      const upstream = await listenOnce('tcp');
      const { port, started } = await connectProxy();
      const socket = client(port);
      const { port: target } = upstream.address as net.TcpNetConnectOpts;
      socket.write(`CONNECT localhost:${target} HTTP/1.1\r\nHost: h\r\n\r\nearly`);
      await readHead(socket);
      const peer = await upstream.accepted;
      peer.on('error', () => {});
      const { relayed } = await started;
      expect((await receiveBytes(peer, 5)).toString()).toBe('early');
      if (how === 'end') {
        const asked = readToEnd(peer);
        const answered = readToEnd(socket);
        socket.end(question);
        peer.end(answer);
        expectSame(await asked, question);
        expectSame(await answered, answer);
        expectRelayed(await relayed, backend, question.length + 5, answer.length);
      } else {
        const lost = fate(socket);
        peer.resetAndDestroy();
        expect(await fails(relayed)).toMatchObject({ code: 'ECONNRESET', aToB: 5, bToA: 0 });
        expect(await lost).toBe('ECONNRESET');
      }
      await closed(peer, socket);
    }
    // The two proxies still listen.
    await until(() => openDescriptors() <= before + 2, 'descriptors are back');
  });

  test("'upgrade' on both sides of a proxy, each with a head", async () => {
    const backServer = http.createServer();
    const backSocket = new Promise<net.Socket>((resolve) => {
      backServer.on('upgrade', (_request, socket, head) => {
        socket.on('error', () => {});
        if (head.length > 0) socket.unshift(head);
        socket.write(
          'HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\nwelcome',
        );
        resolve(socket as net.Socket);
      });
    });
    await listenHttp(backServer);

    const proxy = http.createServer();
    await listenHttp(proxy);
    const { promise: result, resolve } = withResolvers<RelayResult>();
    const heads: string[] = [];
    proxy.on('upgrade', (request, socket, head) => {
      socket.on('error', () => {});
      const { method, headers, url } = request;
      const asked = http.request({
        host: '127.0.0.1',
        port: portOf(backServer),
        agent: false,
        ...(method && { method }),
        ...(url && { path: url }),
        headers,
      });
      asked.on('upgrade', (response, upstream, upstreamHead) => {
        heads.push(head.toString(), upstreamHead.toString());
        upstream.on('error', () => {});
        const lines = response.rawHeaders.map((text, i) => `${text}${i % 2 === 0 ? ': ' : '\r\n'}`);
        socket.write(`HTTP/1.1 101 Switching Protocols\r\n${lines.join('')}\r\n`);
        socket.unshift(head);
        upstream.unshift(upstreamHead);
        resolve(relay(socket, upstream, { backend }));
      });
      asked.end();
    });

    const socket = client(portOf(proxy));
    socket.write(
      'GET /chat HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\nhello',
    );
    expect(await readHead(socket)).toContain('Upgrade: echo');
    expect((await receiveBytes(socket, 7)).toString()).toBe('welcome');
    const peer = await backSocket;
    expect((await receiveBytes(peer, 5)).toString()).toBe('hello');
    expect(heads).toEqual(['hello', 'welcome']);
    const asked = readToEnd(peer);
    const answered = readToEnd(socket);
    for (let i = 0; i < 100; i++) socket.write(question.subarray(i * 10, i * 10 + 10));
    peer.write(answer.subarray(0, 1000));
    socket.end(question.subarray(1000));
    expectSame(await asked, question);
    peer.end(answer.subarray(1000));
    expectSame(await answered, answer);
    expectRelayed(await result, backend, question.length + 5, answer.length + 7);
    await closed(peer, socket);
  });

  test("a client's side: http.request()'s 'connect', relayed on to another socket", async () => {
    const upstream = await listenOnce('tcp');
    const { port } = await connectProxy();
    const { port: target } = upstream.address as net.TcpNetConnectOpts;
    const asked = http.request({
      host: '127.0.0.1',
      port,
      method: 'CONNECT',
      path: `localhost:${target}`,
      agent: false,
    });
    asked.end();
    upstream.accepted.then((peer) => peer.write('greeting'));
    const [response, socket, head] = (await once(asked, 'connect')) as [
      http.IncomingMessage,
      net.Socket,
      Buffer,
    ];
    expect(response.statusCode).toBe(200);
    socket.unshift(head);
    const peer = await upstream.accepted;
    const local = await listenOnce('unix');
    const user = net.connect({ ...local.address, allowHalfOpen: true });
    onTestFinished(() => {
      user.destroy();
    });
    const a = await local.accepted;
    const result = relay(a, socket, { backend });
    const asks = readToEnd(peer);
    const answered = readToEnd(user);
    user.end(question);
    expectSame(await asks, question);
    peer.end(answer);
    expectSame(await answered, Buffer.concat([Buffer.from('greeting'), answer]));
    expectRelayed(await result, backend, question.length, answer.length + 8);
  });
});
