// A program: ends that bytes go to and come from, and what is done with them, in order. All that it
// decides is in its data, so that it can be replayed, shrunk and pasted; only the kernel may race.
export const fileKinds = ['path', 'fd', 'FileHandle'] as const;
type FileKind = (typeof fileKinds)[number];
const duplexKinds = ['tcp', 'unix', 'pipe', 'tls', 'passthrough'] as const;
export type DuplexKind = (typeof duplexKinds)[number];
/** Those that relay() takes. */
export const relayedKinds = ['tcp', 'unix', 'tls'] as const;
export const framings = ['length', 'chunked'] as const;
type Framing = (typeof framings)[number];

/** Two ends that write to each other; transfers have the near one. */
export interface DuplexLane {
  kind: DuplexKind;
  /** Of TCP and Unix sockets: which side of the connection the near end is. */
  near: 'accepted' | 'connected';
  /** Whether the sockets' buffers are small. */
  narrow: boolean;
  /** Whether the far end reads from the beginning. */
  reading: boolean;
}

/** A connection on which a client has sent some requests; each response is a sink. */
export interface HttpLane {
  kind: 'http';
  over: 'tcp' | 'unix';
  narrow: boolean;
  reading: boolean;
  responses: Framing[];
}

/** A file that transfers write to. */
export interface FileLane {
  kind: FileKind;
  /**
   * Each transfer at an offset of its own, or one after the other: at the descriptor's position,
   * behind the end, or from the beginning of the file, which it empties.
   */
  to: 'offset' | 'position' | 'append' | 'anew';
}

export type Lane = DuplexLane | HttpLane | FileLane;

/** A file of the corpus, or the program's own (`file: 'own'`), and a range of it. */
export interface Range {
  file: number | 'own' | 'proc';
  as: 'path' | 'URL' | 'fd' | 'FileHandle' | 'fd, closed at once';
  offset: number;
  length?: number | undefined;
}

/** What every transfer has. */
interface Asked {
  backend: 'auto' | 'stream';
  /** The option `endSink`. */
  end?: boolean | undefined;
  /** 'later': by an operation of its own. */
  abort?: 'before' | 'at once' | 'later' | undefined;
  progress?: boolean | undefined;
  /** Its files, but the program's own, are not open at once. */
  late?: boolean | undefined;
}

export type Part = { memory: number } | Range;

/** `lane` is an index; it is taken for the first lane from there on that the operation fits. */
export type Operation =
  | { op: 'write'; lane: number; size: number; as: 'bytes' | 'latin1' }
  | ({ op: 'send'; lane: number; from: Range } & Asked)
  | ({ op: 'gather'; lane: number; parts: Part[] } & Asked)
  | ({ op: 'take'; lane: number; source: number; length?: number | undefined } & Asked)
  | { op: 'pipe'; lane: number; from: Range; end: boolean; highWaterMark?: number | undefined }
  | { op: 'meddle'; pipe: number; how: Meddling }
  | { op: 'relay'; lane: number; other: number; backend: 'auto' | 'stream'; signal: boolean }
  | { op: 'abort'; transfer: number }
  | { op: 'flow'; lane: number; how: 'pause' | 'resume' | number }
  | { op: 'destroy'; lane: number; end: 'sink' | 'peer'; how: 'plain' | 'error' | 'reset' }
  | { op: 'timeout'; lane: number; ms: number; destroys: boolean }
  | { op: 'truncate'; size: number }
  | { op: 'end'; lane: number }
  | { op: 'cork'; lane: number }
  | { op: 'uncork'; lane: number }
  | { op: 'no delay'; lane: number; on: boolean }
  | { op: 'feed'; lane: number; size: number }
  | { op: 'end of feed'; lane: number }
  | { op: 'read'; lane: number; size: number }
  | { op: 'count'; lane: number }
  | { op: 'turns'; count: number }
  | { op: 'wait'; ms: number }
  | { op: 'settle'; transfer: number };

export const meddlings = [
  'unpipe',
  'destroy',
  'pause',
  'resume',
  'listen',
  'second pipe',
  'readable',
] as const;
export type Meddling = (typeof meddlings)[number];

export interface Program {
  lanes: Lane[];
  operations: Operation[];
}

export const isDuplex = (lane: Lane): lane is DuplexLane =>
  (duplexKinds as readonly string[]).includes(lane.kind);
export const isFile = (lane: Lane): lane is FileLane =>
  (fileKinds as readonly string[]).includes(lane.kind);
