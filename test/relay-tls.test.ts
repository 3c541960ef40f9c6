// Relays with a side that encrypts: by streams, with all that a relay promises.
import { once } from 'node:events';
import * as tls from 'node:tls';
import { beforeAll, describe, expect, onTestFinished, test } from 'vitest';
import { relay } from 'zerocopy';
import { pattern } from './helpers/files';
import { expectSame } from './helpers/http';
import { sleep, until } from './helpers/process';
import { closed, ends, fails, fate, readToEnd, warmUp } from './helpers/relay';
import { listenOnPort, receiveBytes } from './helpers/sockets';
import { certificate } from './helpers/tls';

const MIB = 1024 * 1024;

beforeAll(warmUp);

/** Two ends of a TLS connection; `near` is to be relayed. */
async function encrypted(allowHalfOpen: boolean, connected: boolean) {
  const server = tls.createServer({ ...certificate(), allowHalfOpen: true });
  onTestFinished(() => {
    server.close();
  });
  const port = await listenOnPort(server);
  const secured = once(server, 'secureConnection') as Promise<[tls.TLSSocket]>;
  const target = { host: '127.0.0.1', port, rejectUnauthorized: false, allowHalfOpen };
  const near = tls.connect(target as tls.ConnectionOptions);
  let accepted: tls.TLSSocket | undefined;
  const peer = secured.then(([socket]) => {
    accepted = socket.on('error', () => {});
    return socket;
  });
  onTestFinished(() => {
    near.destroy();
    accepted?.destroy();
  });
  near.on('error', () => {});
  if (connected) await once(near, 'secureConnect');
  return { near, peer };
}

describe.each(['a', 'b'] as const)('%s encrypts', (side) => {
  describe.each([true, false])('allowHalfOpen: %s', (allowHalfOpen) => {
    /** A relay with a TLS side, before it starts. */
    async function prepared(connected = true) {
      const plain = await ends({ allowHalfOpen });
      const { near, peer } = await encrypted(allowHalfOpen, connected);
      const [a, b] = side === 'a' ? [near, plain.b] : [plain.a, near];
      const plainPeer = side === 'a' ? plain.bPeer : plain.aPeer;
      return { a, b, plain: side === 'a' ? plain.b : plain.a, plainPeer, near, peer };
    }

    const counts = (there: number, back: number) =>
      side === 'a' ? { aToB: back, bToA: there } : { aToB: there, bToA: back };
    const byStreams = { backend: 'stream', fallback: { code: 'TLS', at: 0 } };

    test.each(['plain', 'encrypted'])('the %s side ends first', async (first) => {
      const { a, b, plainPeer, peer } = await prepared();
      const result = relay(a, b);
      const tlsPeer = await peer;
      const [starter, other] = first === 'plain' ? [plainPeer, tlsPeer] : [tlsPeer, plainPeer];
      const [question, answer] = [pattern(3 * MIB + 1, 71), pattern(2 * MIB, 72)];
      const asked = readToEnd(other);
      const answered = readToEnd(starter);
      starter.end(question);
      expectSame(await asked, question);
      await sleep(50);
      other.write(answer.subarray(0, MIB));
      await sleep(50);
      other.end(answer.subarray(MIB));
      expectSame(await answered, answer);
      const [there, back] = [question.length, answer.length];
      const moved = first === 'plain' ? counts(there, back) : counts(back, there);
      expect(await result).toMatchObject({ ...moved, ...byStreams });
      await closed(a, b);
    });

    test('still connecting, with bytes that wait', async () => {
      const { a, b, plain, plainPeer, near, peer } = await prepared(false);
      plainPeer.write('hello ');
      await until(() => plain.readableLength === 6, 'it is read');
      plain.unshift(Buffer.from('head '));
      near.write('first ');
      const result = relay(a, b);
      plainPeer.end('world');
      const tlsPeer = await peer;
      expect((await readToEnd(tlsPeer)).toString()).toBe('first head hello world');
      const received = readToEnd(plainPeer);
      tlsPeer.end('back');
      expect((await received).toString()).toBe('back');
      expect(await result).toMatchObject({ ...counts(16, 4), ...byStreams });
    });

    test('the plain side is reset, the encrypted one destroyed', async () => {
      for (const how of ['reset', 'destroy']) {
        const { a, b, plainPeer, near, peer } = await prepared();
        const failed = fails(relay(a, b));
        const tlsPeer = await peer;
        tlsPeer.write('some');
        expect((await receiveBytes(plainPeer, 4)).toString()).toBe('some');
        const lost = how === 'reset' ? once(tlsPeer.resume(), 'close') : fate(plainPeer);
        if (how === 'reset') plainPeer.resetAndDestroy();
        else near.destroy();
        const code = how === 'reset' ? 'ECONNRESET' : 'ERR_STREAM_PREMATURE_CLOSE';
        expect(await failed).toMatchObject({ ...counts(0, 4), code, backend: 'stream' });
        if (how === 'reset') tlsPeer.end();
        const seen = await lost;
        if (how === 'destroy') expect(seen).toBe('ECONNRESET');
        await closed(a, b);
        plainPeer.destroy();
        tlsPeer.destroy();
        await closed(plainPeer, tlsPeer);
      }
    });
  });

  test('a native relay is refused', async () => {
    const plain = await ends();
    const { near, peer } = await encrypted(true, true);
    await peer;
    const refused =
      side === 'a'
        ? relay(near, plain.b, { backend: 'native' })
        : relay(plain.a, near, { backend: 'native' });
    await expect(refused).rejects.toMatchObject({
      code: 'ERR_NOT_NATIVE',
      cause: { code: 'TLS' },
      aToB: 0,
      bToA: 0,
    });
  });
});
