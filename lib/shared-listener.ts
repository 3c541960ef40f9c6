// One listener for each of many things, however many wait for what it tells: more than ten make Node
// warn of a leak, and each of thousands would be looked for when it is taken back.

interface Waiting {
  callbacks: Set<() => void>;
  tell: () => void;
  ignore: () => void;
}

export class SharedListener<T extends object> {
  readonly #waiting = new WeakMap<T, Waiting>();
  readonly #listen: (to: T, listener: () => void) => () => void;

  /** `listen` returns what takes the listener back. */
  constructor(listen: (to: T, listener: () => void) => () => void) {
    this.#listen = listen;
  }

  /** Calls back once. Returns what takes that back. */
  once(to: T, callback: () => void): () => void {
    const waiting = this.#waiting.get(to) ?? this.#begin(to);
    waiting.callbacks.add(callback);
    return () => {
      waiting.callbacks.delete(callback);
      if (waiting.callbacks.size === 0) this.#stop(to, waiting);
    };
  }

  /** Calls all of them back now, in their order. */
  tell(to: T): void {
    this.#waiting.get(to)?.tell();
  }

  #begin(to: T): Waiting {
    const tell = () => {
      this.#stop(to, waiting);
      for (const callback of waiting.callbacks) callback();
    };
    const waiting: Waiting = { callbacks: new Set(), tell, ignore: this.#listen(to, tell) };
    this.#waiting.set(to, waiting);
    return waiting;
  }

  #stop(to: T, waiting: Waiting): void {
    if (this.#waiting.get(to) !== waiting) return;
    this.#waiting.delete(to);
    waiting.ignore();
  }
}

const ofEvent = (name: string) =>
  new SharedListener<NodeJS.EventEmitter>((emitter, listener) => {
    emitter.on(name, listener);
    return () => emitter.off(name, listener);
  });

/** For 'close' of whatever has it. */
export const closes = ofEvent('close');

/** For 'socket' of a message: it has one from then on. */
export const sockets = ofEvent('socket');
