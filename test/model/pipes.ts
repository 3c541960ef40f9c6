// Files that a program pipes to a sink by createReadStream(), and what is done to them meanwhile.
import * as fs from 'node:fs';
import { PassThrough } from 'node:stream';
import { createReadStream } from 'zerocopy';
import { onTestFinished } from '../helpers/scope';
import type { Outlet } from './ends';
import type { Piece } from './pieces';
import { clamp } from './plan';
import type { Meddling } from './program';
import { cutWithin, fileOf } from './sources';
import { uncorkMessage } from './streams';
import { type Of, turn, type World } from './world';

export function pipe(world: World, operation: Of<'pipe'>, i: number): void {
  const outlet = world.outlet(operation);
  if (!outlet || outlet.closing || outlet.relayed) return;
  const ends = operation.end && outlet.promised === undefined;
  world.count('createReadStream().pipe()', outlet.column);
  if (ends) outlet.closing = true;
  world.when(outlet, () => {
    if (outlet.sink.destroyed) return;
    if (ends) uncorkMessage(outlet);
    const piping = new Piping(world, operation, `pipe ${i}`, outlet, ends);
    world.pipings.push(piping);
    world.checks.push(() => piping.check());
  });
}

export class Piping {
  readonly #world: World;
  readonly #what: string;
  readonly #outlet: Outlet;
  readonly stream: ReturnType<typeof createReadStream>;
  readonly #bytes: Buffer;
  readonly #cutAt: () => number | undefined;
  readonly #end: () => void;
  #ends = 0;
  #isOver = false;
  #isUnpiped = false;
  #isDestroyed = false;
  #hasOtherReaders = false;

  constructor(
    world: World,
    { from, highWaterMark }: Of<'pipe'>,
    what: string,
    outlet: Outlet,
    ends: boolean,
  ) {
    this.#world = world;
    this.#what = what;
    this.#outlet = outlet;
    // Of /proc, as of any file, it reads what is there.
    const isProc = from.file === 'proc';
    const file = isProc ? world.corpus.proc : fileOf(world, from.file as number | 'own');
    const { start, end } = clamp(isProc ? { ...from, offset: 0 } : from, file.content.length);
    this.#bytes = file.content.subarray(start, end);
    if (from.file === 'own') world.own?.readBy(outlet, () => this.#isOver);
    this.#cutAt = from.file === 'own' ? cutWithin(world, start, end) : () => undefined;
    // There is no empty range: `end` is the last byte.
    const range = start < end ? { start, end: end - 1 } : { start: file.content.length };
    const isOpen = from.as === 'fd';
    this.stream = createReadStream(file.path, {
      ...range,
      ...(highWaterMark && { highWaterMark }),
      ...(isOpen && { fd: fs.openSync(file.path, 'r'), autoClose: false }),
    });
    if (isOpen) onTestFinished(() => void this.stream.destroy());
    outlet.line.hold();
    this.#end = world.begin(outlet);
    outlet.pieces.push(() => this.#piece());
    this.stream.pipe(outlet.sink, { end: ends });
    this.stream.once('end', () => {
      this.#ends += 1;
      this.#over();
    });
    this.stream.once('close', () => this.#over());
    // With its sink it closes only what it has opened itself.
    if (isOpen) outlet.sink.once('close', () => this.#over());
    this.stream.on('error', (error: NodeJS.ErrnoException) => this.#failed(error));
  }

  #failed(error: NodeJS.ErrnoException): void {
    const isTruncated = error.code === 'ERR_SOURCE_TRUNCATED' && this.#cutAt() !== undefined;
    if (!isTruncated) this.#world.wrong(`${this.#what}: ${error.stack}`);
    else if (this.#outlet.kind === 'http') this.#outlet.breaksOff();
    this.#over();
  }

  #over(): void {
    if (this.#isOver) return;
    this.#isOver = true;
    this.#world.log.push(`  ${this.#what}: ${this.stream.bytesRead} bytes read`);
    this.#end();
    this.#outlet.line.release();
  }

  meddle(how: Meddling): void {
    const { stream } = this;
    if (this.#isOver) return;
    this.#world.count(`createReadStream(): ${how}`, this.#outlet.column);
    switch (how) {
      case 'unpipe':
        this.#isUnpiped = true;
        stream.unpipe(this.#outlet.sink);
        return this.#over();
      case 'destroy':
        this.#isDestroyed = true;
        return void stream.destroy();
      case 'pause':
        return void stream.pause();
      case 'resume':
        return void stream.resume();
      case 'listen':
        this.#hasOtherReaders = true;
        return void stream.on('data', () => {});
      case 'second pipe':
        this.#hasOtherReaders = true;
        return void stream.pipe(new PassThrough().resume());
      case 'readable':
        return void this.#listenForATurn(stream);
    }
  }

  async #listenForATurn(stream: fs.ReadStream): Promise<void> {
    const listener = () => {};
    stream.on('readable', listener);
    await turn();
    stream.off('readable', listener);
    await turn();
    if (!this.#isOver) stream.resume();
  }

  /** Lets it go on to its end. */
  windUp(): void {
    if (!this.#isUnpiped && !this.stream.destroyed) this.stream.resume();
  }

  #piece(): Piece {
    const bytes = this.#bytes;
    const { bytesRead, readableLength, backend } = this.stream;
    let [least, most] = [bytes.length, bytes.length];
    if (this.#outlet.causes.size > 0 || (this.#isUnpiped && this.#hasOtherReaders)) {
      least = 0;
    } else if (this.#isUnpiped) {
      least = bytesRead - readableLength;
      most = least;
    } else if (this.#isDestroyed) {
      least = backend === undefined || backend === 'stream' ? 0 : bytesRead;
      most = bytesRead;
    } else if (this.#cutAt() !== undefined) {
      // As with fs, it ends where the file does.
      least = bytesRead;
      most = bytesRead;
    }
    return { what: this.#what, bytes, least, most, wipedFrom: this.#cutAt() };
  }

  check(): string | undefined {
    const { bytesRead, destroyed } = this.stream;
    if (this.#isUnpiped) this.stream.destroy();
    if (this.#ends > 1) return `${this.#what}: it has ended ${this.#ends} times`;
    const isWhole =
      !this.#isUnpiped && !this.#isDestroyed && !destroyed && this.#outlet.causes.size === 0;
    if (!isWhole || this.#cutAt() !== undefined || bytesRead === this.#bytes.length) {
      return undefined;
    }
    return `${this.#what}: bytesRead is ${bytesRead}, not ${this.#bytes.length}`;
  }
}
