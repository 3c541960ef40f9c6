// Keeps everybody else from reading a stream for as long as a transfer does.
//
// `read()` gives others nothing, no 'data' is emitted, and what `pause()` and `resume()` ask for is
// done when the gate opens again: the stream is then as its reader left it, or has wished since.
//
// What Node does not document of streams is touched here: the setter of `readableFlowing`.
import type { Readable } from 'node:stream';

type Flow = 'paused' | 'flowing' | undefined;

const gates = new WeakMap<Readable, Gate>();

export class Gate {
  readonly #stream: Readable;
  readonly #read: Readable['read'];
  readonly #gatedRead: Readable['read'];
  readonly #pause: Readable['pause'];
  readonly #resume: Readable['resume'];
  #closed = false;
  #reading = false;
  /** What it is to do when the gate opens. */
  #flow: Flow;
  #resuming: NodeJS.Immediate | undefined;
  #onReadable: (() => void) | undefined;

  static of(stream: Readable): Gate {
    let gate = gates.get(stream);
    if (!gate) {
      gate = new Gate(stream);
      gates.set(stream, gate);
    }
    return gate;
  }

  private constructor(stream: Readable) {
    const { read, pause, resume, emit } = stream;
    this.#stream = stream;
    this.#read = read;
    this.#pause = pause;
    this.#resume = resume;
    // read(0) takes nothing: Node has more read by it.
    this.#gatedRead = (size) => (this.#closed && size !== 0 ? null : read.call(stream, size));
    this.#replace('read', this.#gatedRead);
    this.#replace('pause', () => this.#wish('paused', pause));
    this.#replace('resume', () => this.#wish('flowing', resume));
    this.#replace('emit', (...args: Parameters<Readable['emit']>) => {
      if (args[0] === 'readable') this.#onReadable?.();
      if (!this.#closed || args[0] !== 'data') return emit.apply(stream, args);
      // Of a pipe() that its sink's 'drain' has set going again.
      if (!this.#reading) stream.unshift(args[1]);
      return true;
    });
  }

  #replace(name: 'read' | 'pause' | 'resume' | 'emit', value: unknown): void {
    Object.defineProperty(this.#stream, name, { configurable: true, writable: true, value });
  }

  #wish(flow: Flow, method: () => Readable): Readable {
    clearImmediate(this.#resuming);
    if (!this.#closed) return method.call(this.#stream);
    this.#flow = flow;
    return this.#stream;
  }

  /** Whether a stream's `read` is this gate's, over the one that it had. */
  static isNodesOwn(stream: Readable, read: unknown): boolean {
    const gate = gates.get(stream);
    if (!gate) return stream.read === read;
    return gate.#read === read && stream.read === gate.#gatedRead;
  }

  close(): void {
    const stream = this.#stream;
    clearImmediate(this.#resuming);
    const hasReader = stream.listenerCount('readable') > 0;
    // One that flows has listeners for 'data', or will have: without any its bytes would be lost.
    this.#flow =
      !stream.readableFlowing && !hasReader && stream.isPaused?.() ? 'paused' : undefined;
    setFlowing(stream, false);
    this.#closed = true;
  }

  /** Has it called back when there may be something to read: a listener would make Node resume. */
  listen(onReadable: (() => void) | undefined): void {
    this.#onReadable = onReadable;
  }

  /** As the stream's own `read()`, for whoever has closed the gate. */
  read(size?: number): unknown {
    this.#reading = true;
    try {
      return this.#read.call(this.#stream, size);
    } finally {
      this.#reading = false;
    }
  }

  /** Opens in the next tick, behind what Node still does for readers that have just gone. */
  open(opened: () => void): void {
    const flow = this.#flow;
    process.nextTick(() => {
      this.#closed = false;
      if (!this.#stream.destroyed) this.#restore(flow);
      opened();
    });
  }

  #restore(flow: Flow): void {
    const stream = this.#stream;
    const isRead = stream.listenerCount('readable') > 0;
    if (flow === 'paused') {
      this.#pause.call(stream);
    } else if (stream.listenerCount('data') > 0) {
      this.#resume.call(stream);
    } else {
      if (!isRead) setFlowing(stream, null);
      // Nobody listens: after those who may begin to when they hear that the transfer is over. Node
      // itself resumes the stdout of a child that has ended.
      if (flow === 'flowing') {
        this.#resuming = setImmediate(() => {
          if (!stream.destroyed) this.#resume.call(stream);
        });
      }
    }
    // Whoever has read nothing while the gate was closed doesn't know that there is something.
    if (isRead && stream.readableLength > 0) stream.emit('readable');
  }
}

/** Without the events of pause() and resume(). */
function setFlowing(stream: Readable, flowing: boolean | null): void {
  (stream as { readableFlowing: boolean | null }).readableFlowing = flowing;
}
