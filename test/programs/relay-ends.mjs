// For programs: a relay at some stage, between two peers of the same process.
import { once } from 'node:events';
import { connect, createServer } from 'node:net';

export const quiet = (socket) => socket.on('error', () => {});

/** A server whose connections `use` gets. */
export async function listening(use) {
  const server = createServer({ allowHalfOpen: true }, (socket) => use(quiet(socket)));
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  return server;
}

/** What the peers do, for a relay to come to a stage. */
export const peersAt = {
  connecting: () => {},
  idle: () => {},
  'under-way': (peer) => {
    peer.resume();
    const more = () => {
      while (!peer.destroyed && peer.write(Buffer.alloc(100_000)));
    };
    peer.on('drain', more);
    more();
  },
  stuck: (peer) => {
    peer.pause();
    peer.write(Buffer.alloc(20_000_000));
  },
  // Of the peer of a alone.
  'half-closed': (peer, name) => {
    peer.resume();
    if (name === 'a') peer.end();
  },
  ended: (peer) => {
    peer.resume();
    peer.end('over');
  },
};

/** Starts a relay between two servers, and waits until it has come to a stage. */
export async function relayAt(stage, portOfA, portOfB) {
  // Not above: the main thread of workers shall not have the addon loaded.
  const { relay } = await import('zerocopy');
  const a = quiet(connect(portOfA, '127.0.0.1'));
  const b = quiet(connect(portOfB, '127.0.0.1'));
  if (stage !== 'connecting') await Promise.all([once(a, 'connect'), once(b, 'connect')]);
  const result = relay(a, b);
  result.catch(() => {});
  if (stage === 'ended') await result;
  else if (stage !== 'connecting') await new Promise((resolve) => setTimeout(resolve, 50));
  return { a, b, result };
}
