// Peers in this process, for programs in others. What a peer does, its port says.
import * as net from 'node:net';
import { until } from './process';
import { listenOnPort } from './sockets';

const chunk = Buffer.alloc(64 * 1024);

const behaviours = {
  /** Never reads. */
  stuck: (peer: net.Socket) => peer.pause(),
  /** Reads a little at a time. */
  slow: (peer: net.Socket) => {
    peer.on('data', () => {
      peer.pause();
      setTimeout(() => peer.resume(), 1);
    });
  },
  /** Reads, and says nothing. */
  reads: (peer: net.Socket) => peer.resume(),
  /** Reads, and says nothing, up to the cue: then something, and that is the end. */
  waits: (peer: net.Socket) => peer.resume(),
  /** Reads, and writes for ever. */
  sends: (peer: net.Socket) => {
    const send = () => {
      while (!peer.destroyed && peer.write(chunk));
    };
    peer.on('drain', send).resume();
    send();
  },
  /** Ends at once, and reads. */
  ends: (peer: net.Socket) => peer.resume().end(),
  cue: (peer: net.Socket) => peer.resume(),
};

export type PeerKind = keyof typeof behaviours;

export class Peers {
  readonly ports = {} as Record<PeerKind, number>;
  readonly #servers: net.Server[] = [];
  readonly #open = new Set<net.Socket>();
  readonly #waiting = new Set<net.Socket>();
  accepted = 0;

  static async listen(): Promise<Peers> {
    const peers = new Peers();
    await Promise.all(Object.keys(behaviours).map((kind) => peers.#listen(kind as PeerKind)));
    return peers;
  }

  async #listen(kind: PeerKind): Promise<void> {
    // Of a process that ends all that is to be seen here is an end or a reset, for which each waits.
    const server = net.createServer({ allowHalfOpen: kind === 'ends' }, (peer) => {
      this.accepted += 1;
      this.#open.add(peer);
      peer.on('error', () => {}).on('close', () => this.#open.delete(peer));
      if (kind === 'waits') this.#waiting.add(peer);
      if (kind === 'cue') {
        for (const waiting of this.#waiting) waiting.end(Buffer.alloc(100_000));
        this.#waiting.clear();
        peer.end();
      }
      behaviours[kind](peer);
    });
    this.#servers.push(server);
    this.ports[kind] = await listenOnPort(server);
  }

  /** Waits until every connection has come to an end or a reset; fails where one hasn't. */
  async ended(): Promise<void> {
    for (const server of this.#servers) server.close();
    for (const peer of this.#open) peer.removeAllListeners('data').resume();
    await until(() => this.#open.size === 0, 'the other process had ended every connection');
  }
}
