// Which operations must have been done to which ends, when enough programs have run.
import type { Column } from './coverage';

const transfers = [
  'transfer: /proc',
  'transfer: list',
  'transfer: of nothing',
  "transfer: 'stream'",
  'transfer: onProgress',
  'transfer: open later',
  ...['path', 'URL', 'fd', 'FileHandle', 'fd, closed at once'].map(
    (by) => `transfer: range, by ${by}`,
  ),
  ...['tcp', 'unix', 'pipe', 'tls', 'passthrough'].map((from) => `transfer: from ${from}`),
  'abort: before',
  'abort: at once',
  'abort: during',
  'abort: after',
];

const onStreams = [
  'write',
  'createReadStream().pipe()',
  'createReadStream(): unpipe',
  'createReadStream(): destroy',
  'createReadStream(): pause',
  'createReadStream(): resume',
  'createReadStream(): listen',
  'createReadStream(): second pipe',
  'createReadStream(): readable',
  'cork',
  'uncork',
  'peer: pause',
  'peer: resume',
  'peer: read some',
  'destroy sink: plain',
  'destroy sink: error',
  'destroy sink: reset',
  'destroy peer: plain',
  'destroy peer: error',
  'destroy peer: reset',
];

const onDuplexes = ['peer: write', 'peer: end', 'read in JavaScript', 'end'];

const files: Column[] = ['path', 'fd', 'FileHandle'];
const duplexes: Column[] = ['tcp', 'unix', 'pipe', 'tls', 'passthrough'];
const messages: Column[] = ['length', 'chunked'];

/** Operations, and the ends that all of them must have been done to. */
export type Expected = [string[], Column[]][];

export const onSockets: Expected = [
  [transfers, [...files, ...duplexes]],
  [[...onStreams, ...onDuplexes], duplexes],
  [['relay'], ['tcp', 'unix', 'tls']],
  [
    ['idle timeout', 'idle timeout, which destroys'],
    ['tcp', 'unix', 'pipe', 'tls'],
  ],
  [['setNoDelay'], ['tcp', 'tls']],
  [['bytesWritten'], ['tcp', 'unix', 'pipe']],
];

export const onMessages: Expected = [
  [[...transfers, ...onStreams], messages],
  [['end'], ['chunked']],
  [['bytesWritten', 'setNoDelay', 'idle timeout', 'idle timeout, which destroys'], messages],
];
