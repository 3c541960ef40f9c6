// Idle timeouts of sockets whose bytes native code moves, of which Node sees nothing.
//
// What Node does not document of timeouts is touched here: `_onTimeout`, `_unrefTimer`.
import type * as net from 'node:net';

interface Internals {
  _onTimeout(): void;
  _unrefTimer(): void;
}

/** Native code that moves bytes. */
export interface Movement {
  /** How many it has moved so far. */
  movedInAll(): number;
}

/** Where a guarded socket has its guard. */
const kGuard = Symbol('guard');
type Guarded = Internals & { [kGuard]?: IdleGuard };

/** In the place of a guarded socket's own, the same for all: see the hooks of lease.ts. */
function onTimeoutUnlessMoving(this: Guarded): void {
  this[kGuard]?.onTimeout();
}

/** Lets a socket's timeouts pass as long as native code moves bytes from it or to it. */
export class IdleGuard {
  readonly #socket: Internals;
  readonly #hooked: Internals['_onTimeout'];
  /** Those under way: as a rule one, or none. */
  #movements: readonly Movement[] = [];
  #before = 0;

  static of(socket: net.Socket): IdleGuard {
    const internals = socket as unknown as Guarded;
    let guard = internals[kGuard];
    if (!guard) {
      guard = new IdleGuard(internals);
      Object.defineProperty(internals, kGuard, { value: guard });
      // The running timer was bound to the _onTimeout before.
      if (socket.timeout) socket.setTimeout(socket.timeout);
    }
    return guard;
  }

  private constructor(socket: Internals) {
    this.#socket = socket;
    this.#hooked = socket._onTimeout;
    Object.defineProperty(socket, '_onTimeout', {
      configurable: true,
      writable: true,
      value: onTimeoutUnlessMoving,
    });
  }

  onTimeout(): void {
    if (this.#sum() === this.#before) this.#hooked.call(this.#socket);
    else this.refresh();
  }

  begin(movement: Movement): void {
    this.#movements = this.#movements.length === 0 ? [movement] : [...this.#movements, movement];
    this.refresh();
  }

  end(movement: Movement): void {
    this.#movements = this.#movements.filter((each) => each !== movement);
    this.refresh();
  }

  /** Something has happened on the socket. */
  refresh(): void {
    this.#before = this.#sum();
    this.#socket._unrefTimer();
  }

  #sum(): number {
    let sum = 0;
    for (const movement of this.#movements) sum += movement.movedInAll();
    return sum;
  }
}
