// What transfers read that are not from streams.
import { pattern } from '../helpers/files';
import { type CorpusFile, nameOf } from './corpus';
import type { SourceKind } from './model';
import { clamp } from './plan';
import type { Part, Range } from './program';
import type { World } from './world';

/** Memory beyond this goes by the sink's own writes. */
const MAX_NATIVE_MEMORY_BYTES = 256 * 1024;

export interface Resolved {
  bytes: Buffer;
  kind: SourceKind;
  /** As a segment, and as the source and the options of a transfer. */
  segment: unknown;
  file?: unknown;
  range: { offset?: number; length?: number };
  afterCall?: (() => void) | undefined;
  /** From which of its bytes on the file has been cut off by now. */
  cutAt: () => number | undefined;
}

export function fileOf({ corpus, own }: World, file: number | 'own'): CorpusFile {
  if (file === 'own') return own as CorpusFile;
  return corpus.files[file % corpus.files.length] as CorpusFile;
}

export function resolve(world: World, part: Part, seed: number): Resolved {
  const cutAt = () => undefined;
  if ('memory' in part) {
    const bytes = pattern(part.memory, seed);
    return { bytes, kind: 'file', segment: bytes, range: {}, cutAt };
  }
  if (part.file === 'proc') {
    const { path: file, content: bytes } = world.corpus.proc;
    return { bytes, kind: 'proc', segment: { file }, file, range: {}, cutAt };
  }
  const found = fileOf(world, part.file);
  const { start, end } = clamp(part, found.content.length);
  const { offset, length } = part;
  const range = { offset, ...(length !== undefined && { length }) };
  const { file, afterCall } = nameOf(found, part.as);
  return {
    bytes: found.content.subarray(start, end),
    kind: 'file',
    segment: { file, ...range },
    file,
    range,
    afterCall,
    cutAt: part.file === 'own' ? cutWithin(world, start, end) : cutAt,
  };
}

/** Tells from which byte of a range of the program's own file on it has been cut off since. */
export function cutWithin({ own }: World, start: number, end: number): () => number | undefined {
  const cut = own?.watch();
  return () => {
    const size = cut?.();
    return size === undefined || size >= end ? undefined : Math.max(0, size - start);
  };
}

/** The same of a gather list's bytes. */
export function cutOf(parts: Resolved[]): number | undefined {
  let at = 0;
  for (const { bytes, cutAt } of parts) {
    const cut = cutAt();
    if (cut !== undefined) return at + cut;
    at += bytes.length;
  }
  return undefined;
}

export function kindOfAll(parts: Resolved[]): SourceKind {
  return parts.some(({ kind }) => kind === 'proc') ? 'proc' : 'file';
}

export const hasLargeMemory = (parts: Part[]) =>
  parts.some((part) => 'memory' in part && part.memory > MAX_NATIVE_MEMORY_BYTES);

export function rangeName({ offset, length, as, file }: Range): string {
  if (file === 'proc') return 'transfer: /proc';
  const what = offset === 0 && length === undefined ? 'file' : 'range';
  return `transfer: ${what}, by ${as}`;
}
