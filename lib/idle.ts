// Idle timeouts of sockets whose bytes native code moves, of which Node sees nothing.
//
// What Node does not document of timeouts is touched here: `_onTimeout`, `_unrefTimer`.
import type * as net from 'node:net';

interface Internals {
  _onTimeout(): void;
  _unrefTimer(): void;
}

const guards = new WeakMap<net.Socket, IdleGuard>();

/** Lets a socket's timeouts pass as long as native code moves bytes from it or to it. */
export class IdleGuard {
  readonly #socket: Internals;
  /** Of each movement under way, how far it has come. */
  readonly #gauges = new Set<() => number>();
  #before = 0;

  static of(socket: net.Socket): IdleGuard {
    let guard = guards.get(socket);
    if (!guard) {
      guard = new IdleGuard(socket);
      guards.set(socket, guard);
    }
    return guard;
  }

  private constructor(socket: net.Socket) {
    const internals = socket as unknown as Internals;
    const onTimeout = internals._onTimeout;
    this.#socket = internals;
    Object.defineProperty(socket, '_onTimeout', {
      configurable: true,
      writable: true,
      value: () => {
        if (this.#sum() === this.#before) onTimeout.call(socket);
        else this.refresh();
      },
    });
    // The running timer was bound to the _onTimeout before.
    if (socket.timeout) socket.setTimeout(socket.timeout);
  }

  /** Native code begins to move bytes; `gauge` tells how many. */
  begin(gauge: () => number): void {
    this.#gauges.add(gauge);
    this.refresh();
  }

  end(gauge: () => number): void {
    this.#gauges.delete(gauge);
    this.refresh();
  }

  /** Something has happened on the socket. */
  refresh(): void {
    this.#before = this.#sum();
    this.#socket._unrefTimer();
  }

  #sum(): number {
    let sum = 0;
    for (const gauge of this.#gauges) sum += gauge();
    return sum;
  }
}
