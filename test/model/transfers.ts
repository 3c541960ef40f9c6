// Transfers that a program asks for.
import type { Writable } from 'node:stream';
import type { TransferOptions } from 'zerocopy';
import { Asked, CHUNK_BYTES, type Request } from './asked';
import { type Consumer, FileTarget, type Outlet } from './ends';
import { type SourceKind, wayOf } from './model';
import type { Piece } from './pieces';
import { mostBytes, takeLength } from './plan';
import type { Part } from './program';
import { cutOf, hasLargeMemory, kindOfAll, type Resolved, rangeName, resolve } from './sources';
import { type Of, turn, type World } from './world';

type Operation = Of<'send'> | Of<'gather'> | Of<'take'>;
type Sink = Outlet | FileTarget;

/** From files and memory. */
export function send(world: World, operation: Of<'send'> | Of<'gather'>, i: number): void {
  const sink = sinkFor(world, operation);
  if (!sink) return;
  const name = operation.op === 'gather' ? 'transfer: list' : rangeName(operation.from);
  countTransfer(world, name, operation, sink, mostBytes(operation));
  world.when(sink, () => sendNow(world, operation, i, sink));
}

function sendNow(world: World, operation: Of<'send'> | Of<'gather'>, i: number, sink: Sink): void {
  const isList = operation.op === 'gather';
  const parts: Part[] = isList ? operation.parts : [operation.from];
  const resolved = parts.map((part, j) => resolve(world, part, 1 + i * 100 + j));
  const bytes = Buffer.concat(resolved.map((part) => part.bytes));
  const isMixed = hasLargeMemory(parts);
  const [only] = resolved;
  const asked = ask(
    world,
    operation,
    `${operation.op} ${i}`,
    {
      source: (isList ? resolved.map(({ segment }) => segment) : only?.file) as Request['source'],
      options: isList ? {} : (only as Resolved).range,
      kind: kindOfAll(resolved),
      isList,
      isMixed,
      least: bytes.length,
      most: bytes.length,
      causes: () => (cutOf(resolved) === undefined ? [] : ['ERR_SOURCE_TRUNCATED']),
    },
    sink,
    () => {
      const { transferred, what, failed } = asked;
      const more = failed && isMixed ? CHUNK_BYTES : asked.uncounted;
      const most = Math.min(bytes.length, transferred + more);
      return { what, bytes, least: transferred, most, wipedFrom: cutOf(resolved) };
    },
  );
  for (const { afterCall } of resolved) afterCall?.();
  if (parts.some((part) => 'file' in part && part.file === 'own')) {
    world.own?.readBy(sink, () => asked.outcome !== undefined);
  }
}

/** From a stream. */
export function take(world: World, operation: Of<'take'>, i: number): void {
  const sink = sinkFor(world, operation);
  const inlet = world.duplex(operation.source)?.inlet;
  if (!sink || !inlet || inlet.relayed) return;
  const mustKnow = sink instanceof FileTarget ? sink.to === 'offset' : sink.promised !== undefined;
  const length = mustKnow ? takeLength(operation.length) : operation.length;
  countTransfer(world, `transfer: from ${inlet.kind}`, operation, sink, length ?? 1);
  const start = () => {
    const what = `take ${i}`;
    const consumer: Consumer = {
      what,
      taken: () => asked.transferred + asked.residual.length,
      check: (bytes) =>
        bytes.subarray(asked.transferred).equals(asked.residual)
          ? undefined
          : 'its residual is not what follows',
      foundEnd: () => !asked.failed && asked.transferred !== length,
    };
    inlet.consumers.push(consumer);
    const asked = ask(
      world,
      operation,
      what,
      {
        source: inlet.source,
        options: length === undefined ? {} : { length },
        kind: inlet.kind,
        least: 0,
        most: length ?? Number.POSITIVE_INFINITY,
        causes: () => inlet.causes,
      },
      sink,
      (): Piece => {
        const at = inlet.before(consumer);
        const bytes = inlet.fed.subarray(at, at + consumer.taken());
        const { transferred, failed } = asked;
        const most = failed?.backend === 'stream' ? bytes.length : transferred;
        return { what, bytes, least: transferred, most };
      },
    );
    inlet.asked.push(asked.settled);
  };
  world.when(sink, () => {
    sink.line.hold();
    const over = world.begin(sink);
    world.when(inlet, () => {
      start();
      over();
      sink.line.release();
    });
  });
}

function sinkFor(world: World, operation: Operation): Sink | undefined {
  const sink = world.sink(operation);
  return sink instanceof FileTarget || !sink?.relayed ? sink : undefined;
}

function countTransfer(
  world: World,
  name: string,
  operation: Operation,
  sink: Sink,
  most: number,
): void {
  const { backend, abort, end, progress } = operation;
  const { column } = sink;
  world.count(name, column);
  if (most === 0) world.alsoCount('transfer: of nothing', column);
  if (backend === 'stream') world.alsoCount("transfer: 'stream'", column);
  if (isLate(operation)) world.alsoCount('transfer: open later', column);
  if (progress) world.alsoCount('transfer: onProgress', column);
  if (abort && abort !== 'later') world.alsoCount(`abort: ${abort}`, column);
  if (!end || sink instanceof FileTarget || sink.promised !== undefined) return;
  world.alsoCount('transfer: endSink', column);
  sink.closing = true;
}

interface From {
  source: Request['source'];
  options: TransferOptions;
  kind: SourceKind;
  isList?: boolean;
  /** Large pieces of memory, which go by the sink's own writes, are among it. */
  isMixed?: boolean;
  least: number;
  most: number;
  causes: () => Iterable<string>;
}

/** Asks for a transfer to a sink that is free. */
function ask(
  world: World,
  operation: Operation,
  what: string,
  from: From,
  sink: Sink,
  piece: () => Piece,
): Asked {
  const { backend, abort, progress, end } = operation;
  const isFile = sink instanceof FileTarget;
  const over = world.begin(sink);
  const way = wayOf(from.kind, sink.kind, backend);
  if (from.isMixed) way.isMixed = true;
  if (from.isList) way.backends.push('sendfile');
  const request: Request = {
    what,
    source: from.source,
    sink: isFile ? sink.named : sink.sink,
    options: {
      ...from.options,
      backend,
      ...(isFile ? sink.give(from.most, piece) : give(sink, end === true, piece)),
    },
    way,
    least: from.least,
    most: from.most,
    doom: isFile ? undefined : doomOf(sink.sink),
    causes: () => [...from.causes(), ...(isFile ? [] : causesOf(sink))],
    abort,
    progress: progress ?? false,
    late: isLate(operation),
    ended: (outcome, wrong) => {
      const { transferred, backend, ...rest } =
        'result' in outcome ? outcome.result : outcome.error;
      const how = 'code' in rest ? rest.code : backend;
      world.log.push(`  ${what}: ${how}, ${transferred} bytes by ${backend}`);
      world.ended(String(how));
      if (wrong) world.wrong(`${what}: ${wrong}`);
      over();
      if (isFile) sink.settled(asked.uncounted + asked.residual.length === 0);
      else if (how === 'ERR_SOURCE_TRUNCATED' && sink.kind === 'http') sink.breaksOff();
    },
  };
  const asked = new Asked(request);
  if (sink.kind === 'http' && request.options.endSink !== false)
    holdUntilOpened(sink as Outlet, asked);
  world.asked.push(asked);
  if (abort === 'later') {
    world.abortable.push({
      column: sink.column,
      abort: () => {
        asked.abort();
        return asked.outcome ? 'after' : 'during';
      },
    });
  }
  world.checks.push(() => asked.checkProgress());
  return asked;
}

/** What is cut off the program's own file is known from the call on. */
function isLate(operation: Operation): boolean {
  if (!operation.late || operation.op === 'take') return false;
  const parts: Part[] = operation.op === 'gather' ? operation.parts : [operation.from];
  const files = parts.filter((part) => 'file' in part).map(({ file }) => file);
  return files.length > 0 && !files.includes('own');
}

/** Until its source is open, a transfer that is to end a message gives way to what else is written. */
async function holdUntilOpened(outlet: Outlet, asked: Asked): Promise<void> {
  const { sink, line } = outlet;
  if (!('headersSent' in sink)) return;
  line.hold();
  while (!sink.headersSent && !sink.destroyed && !asked.outcome) await turn();
  line.release();
}

function give(sink: Outlet, ends: boolean, piece: () => Piece): TransferOptions {
  sink.pieces.push(piece);
  const mayEnd = ends && sink.promised === undefined;
  // By default a message is ended.
  return sink.kind === 'http' && mayEnd ? {} : { endSink: mayEnd };
}

const causesOf = ({ causes, closing }: Outlet) =>
  closing ? [...causes, 'ERR_STREAM_WRITE_AFTER_END'] : causes;

/** What a transfer must fail with that is asked for now. */
function doomOf(sink: Writable): string | undefined {
  // Node may have said why.
  const { code } = (sink.errored ?? {}) as NodeJS.ErrnoException;
  if (sink.destroyed) return code ?? 'ERR_STREAM_PREMATURE_CLOSE';
  return sink.writableEnded ? 'ERR_STREAM_WRITE_AFTER_END' : undefined;
}
