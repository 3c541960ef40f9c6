// One listener for each of many things, however many wait for what it tells: more than ten make Node
// warn of a leak, and each of thousands would be looked for when it is taken back.

interface Waiting {
  callbacks: Set<() => void>;
  listener: () => void;
}

export class SharedListener<T extends object> {
  readonly #waiting = new WeakMap<T, Waiting>();
  readonly #add: (to: T, listener: () => void) => void;
  readonly #remove: (from: T, listener: () => void) => void;

  constructor(
    add: (to: T, listener: () => void) => void,
    remove: (from: T, listener: () => void) => void,
  ) {
    this.#add = add;
    this.#remove = remove;
  }

  /** Calls back once. Returns what takes that back. */
  once(to: T, callback: () => void): () => void {
    const waiting = this.#waiting.get(to) ?? this.#listen(to);
    waiting.callbacks.add(callback);
    return () => {
      waiting.callbacks.delete(callback);
      if (waiting.callbacks.size === 0) this.#stop(to, waiting);
    };
  }

  #listen(to: T): Waiting {
    const waiting: Waiting = {
      callbacks: new Set(),
      listener: () => {
        this.#stop(to, waiting);
        for (const callback of waiting.callbacks) callback();
      },
    };
    this.#waiting.set(to, waiting);
    this.#add(to, waiting.listener);
    return waiting;
  }

  #stop(to: T, waiting: Waiting): void {
    if (this.#waiting.get(to) !== waiting) return;
    this.#waiting.delete(to);
    this.#remove(to, waiting.listener);
  }
}

const ofEvent = (name: string) =>
  new SharedListener<NodeJS.EventEmitter>(
    (emitter, listener) => emitter.on(name, listener),
    (emitter, listener) => emitter.off(name, listener),
  );

/** For 'close' of whatever has it. */
export const closes = ofEvent('close');

/** For 'socket' of a message: it has one from then on. */
export const sockets = ofEvent('socket');
