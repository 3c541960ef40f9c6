// What can be told of a program before it runs: which end each operation is for, and how many bytes it
// is to move at most.
import { corpusSizes } from './corpus';
import { isDuplex, isFile, type Lane, type Operation, type Program, type Range } from './program';

/** Length of the file that a program may truncate. */
export const OWN_BYTES = 320 * 1024;
/** What a transfer from a stream takes, where its sink has to know. */
const DEFAULT_TAKE = 50_000;

/** A sink, by its lane and, of an HTTP connection, its response. */
export interface SinkIndex {
  lane: number;
  response: number;
}

function sinksOf(lanes: Lane[]): SinkIndex[] {
  return lanes.flatMap((lane, i) =>
    lane.kind === 'http'
      ? lane.responses.map((_, response) => ({ lane: i, response }))
      : [{ lane: i, response: 0 }],
  );
}

/** The first that fits, from an index on, around. */
function firstFit<T>(all: T[], from: number, fits: (one: T) => boolean): T | undefined {
  for (let i = 0; i < all.length; i++) {
    const one = all[(from + i) % all.length] as T;
    if (fits(one)) return one;
  }
  return undefined;
}

const toFiles = new Set(['send', 'gather', 'take']);

/** The sink that an operation is for. */
export function sinkOf({ lanes }: Program, operation: Operation): SinkIndex | undefined {
  if (!('lane' in operation)) return undefined;
  const fits = ({ lane }: SinkIndex) => toFiles.has(operation.op) || !isFile(lanes[lane] as Lane);
  const found = firstFit(sinksOf(lanes), operation.lane, fits);
  // Of a stream whose bytes wait for a response's turn, those for an earlier one would wait too.
  return found && operation.op === 'take' ? { ...found, response: 0 } : found;
}

/** The lane that an operation on both of its ends is for. */
export function duplexOf(
  { lanes }: Program,
  from: number,
  fits: (lane: Lane) => boolean = isDuplex,
): number | undefined {
  const indices = lanes.map((_, i) => i);
  return firstFit(indices, from, (i) => fits(lanes[i] as Lane));
}

/** A range as far as its file goes. */
export function clamp({ offset, length }: Range, size: number): { start: number; end: number } {
  const start = Math.min(offset, size);
  return { start, end: Math.min(size, start + (length ?? size)) };
}

function sizeOf(range: Range): number {
  if (range.file === 'proc') return 4096;
  const size =
    range.file === 'own' ? OWN_BYTES : (corpusSizes[range.file % corpusSizes.length] ?? 0);
  const { start, end } = clamp(range, size);
  return end - start;
}

/** Of a transfer from a stream to a sink that has to know: most bytes to take. */
export function takeLength(length: number | undefined): number {
  return length ?? DEFAULT_TAKE;
}

/** Most bytes that an operation gives its sink. */
export function mostBytes(operation: Operation): number {
  switch (operation.op) {
    case 'write':
      return operation.size;
    case 'send':
    case 'pipe':
      return sizeOf(operation.from);
    case 'gather':
      return operation.parts
        .map((part) => ('memory' in part ? part.memory : sizeOf(part)))
        .reduce((sum, bytes) => sum + bytes, 0);
    case 'take':
      return takeLength(operation.length);
    default:
      return 0;
  }
}

/** Of each response of a lane, the bytes that it is going to have at most. */
export function promisesOf(program: Program, lane: number): number[] {
  const promised: number[] = [];
  for (const operation of program.operations) {
    const sink = sinkOf(program, operation);
    if (sink?.lane !== lane) continue;
    promised[sink.response] = (promised[sink.response] ?? 0) + mostBytes(operation);
  }
  return promised;
}
