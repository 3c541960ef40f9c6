// What the public functions take and give, in types. `npm run types` checks it; nothing of it runs.
import type { ReadStream as NodesReadStream, PathLike } from 'node:fs';
import type { FileHandle } from 'node:fs/promises';
import type { ClientRequest, IncomingMessage, ServerResponse } from 'node:http';
import type { Socket } from 'node:net';
import type { Duplex, Readable, Transform, Writable } from 'node:stream';
import type { TLSSocket } from 'node:tls';
import { expectTypeOf } from 'vitest';
import {
  type Backend,
  type Capabilities,
  type CopyFileOptions,
  capabilities,
  copyFile,
  copyFileRange,
  copyFileRangeSync,
  createReadStream,
  type Fallback,
  type FallbackCode,
  type FileSource,
  type Pipe,
  type Progress,
  pipe,
  pipeSync,
  type ReadStream,
  type RelayError,
  type RelayOptions,
  type RelayResult,
  relay,
  type Segment,
  type Sink,
  type Source,
  type Stats,
  sendfile,
  sendfileSync,
  splice,
  spliceSync,
  stats,
  type TransferError,
  type TransferOptions,
  type TransferResult,
  transfer,
} from 'zerocopy';

// Ends.

type File = string | URL | number | FileHandle;
expectTypeOf<FileSource>().toEqualTypeOf<File>();
expectTypeOf<Source>().toEqualTypeOf<File | Readable>();
expectTypeOf<Sink>().toEqualTypeOf<File | Writable>();
expectTypeOf<
  Socket | TLSSocket | IncomingMessage | NodesReadStream | Transform
>().toExtend<Source>();
expectTypeOf<Socket | TLSSocket | ServerResponse | ClientRequest | Transform>().toExtend<Sink>();
expectTypeOf<ServerResponse>().not.toExtend<Source>();
expectTypeOf<IncomingMessage>().not.toExtend<Sink>();
expectTypeOf<Uint8Array>().not.toExtend<Source>();
expectTypeOf<Blob>().not.toExtend<Source>();
expectTypeOf<bigint>().not.toExtend<Source>();
expectTypeOf<Buffer>().toExtend<Segment>();
expectTypeOf<{ file: string }>().toExtend<Segment>();
expectTypeOf<{ file: FileHandle; offset: number; length: number }>().toExtend<Segment>();
expectTypeOf<{ offset: number }>().not.toExtend<Segment>();
expectTypeOf<string>().not.toExtend<Segment>();

// transfer()

expectTypeOf(transfer).parameters.toEqualTypeOf<
  [source: Source | Segment[], sink: Sink, options?: TransferOptions]
>();
expectTypeOf(transfer).returns.resolves.toEqualTypeOf<TransferResult>();
expectTypeOf<TransferOptions>().toEqualTypeOf<{
  offset?: number | undefined;
  length?: number | undefined;
  sinkOffset?: number | undefined;
  sinkFlags?: string | undefined;
  endSink?: boolean | undefined;
  signal?: AbortSignal | undefined;
  onProgress?: ((progress: Progress) => void) | undefined;
  backend?: 'auto' | 'native' | 'stream' | undefined;
}>();
expectTypeOf<Progress>().toEqualTypeOf<{ transferred: number; total: number | undefined }>();
expectTypeOf<TransferResult>().toEqualTypeOf<{
  transferred: number;
  backend: Backend;
  fallback?: Fallback;
}>();
expectTypeOf<Backend>().toEqualTypeOf<
  'sendfile' | 'splice' | 'copy_file_range' | 'read' | 'stream'
>();
expectTypeOf<Fallback>().toEqualTypeOf<{ code: FallbackCode; message: string; at: number }>();
expectTypeOf<'TLS' | 'NO_ADDON' | 'SINK_TYPE'>().toExtend<FallbackCode>();
expectTypeOf<string>().not.toExtend<FallbackCode>();

// createReadStream()

expectTypeOf(createReadStream).parameter(0).toEqualTypeOf<PathLike>();
expectTypeOf(createReadStream).toBeCallableWith('file', { start: 1, end: 2, highWaterMark: 3 });
expectTypeOf(createReadStream).toBeCallableWith('file', 'utf8');
expectTypeOf(createReadStream).returns.toEqualTypeOf<ReadStream>();
expectTypeOf<ReadStream>().toExtend<NodesReadStream>();
expectTypeOf<ReadStream['backend']>().toEqualTypeOf<Backend | undefined>();
expectTypeOf<ReadStream['fallback']>().toEqualTypeOf<Fallback | undefined>();

// copyFile(), relay()

expectTypeOf(copyFile).parameters.toEqualTypeOf<
  [source: string | URL, sink: string | URL, options?: CopyFileOptions]
>();
expectTypeOf(copyFile).returns.resolves.toEqualTypeOf<TransferResult>();
expectTypeOf<CopyFileOptions>().toEqualTypeOf<{
  exclusive?: boolean | undefined;
  holes?: boolean | undefined;
  signal?: AbortSignal | undefined;
  onProgress?: ((progress: Progress) => void) | undefined;
  backend?: 'auto' | 'native' | 'stream' | undefined;
}>();
expectTypeOf(relay).parameters.toEqualTypeOf<[a: Duplex, b: Duplex, options?: RelayOptions]>();
expectTypeOf(relay).returns.resolves.toEqualTypeOf<RelayResult>();
expectTypeOf<RelayResult>().toEqualTypeOf<{
  aToB: number;
  bToA: number;
  backend: 'splice' | 'stream';
  fallback?: Fallback;
}>();

// Errors

expectTypeOf<TransferError>().toExtend<Error>();
expectTypeOf<RelayError>().toExtend<TransferError>();
expectTypeOf<
  Pick<TransferError, 'code' | 'transferred' | 'backend' | 'errno' | 'syscall' | 'residual'>
>().toEqualTypeOf<{
  readonly code: string;
  readonly transferred: number;
  readonly backend: Backend;
  readonly errno?: number;
  readonly syscall?: string;
  readonly residual?: Buffer;
}>();
expectTypeOf<Pick<TransferError, 'fallback'>>().toEqualTypeOf<{ readonly fallback?: Fallback }>();
expectTypeOf<Pick<RelayError, 'aToB' | 'bToA'>>().toEqualTypeOf<{
  readonly aToB: number;
  readonly bToA: number;
}>();

// Bare calls

type BareCall = [number, number | null, number, number | null, number];
expectTypeOf(sendfile).parameters.toEqualTypeOf<[number, number, number | null, number]>();
expectTypeOf(sendfile).returns.resolves.toBeNumber();
expectTypeOf(sendfileSync).returns.toBeNumber();
expectTypeOf(splice).parameters.toEqualTypeOf<[...BareCall, flags?: number]>();
expectTypeOf(splice).returns.resolves.toBeNumber();
expectTypeOf(spliceSync).returns.toBeNumber();
expectTypeOf(copyFileRange).parameters.toEqualTypeOf<BareCall>();
expectTypeOf(copyFileRange).returns.resolves.toBeNumber();
expectTypeOf(copyFileRangeSync).returns.toBeNumber();
expectTypeOf(pipe).returns.resolves.toEqualTypeOf<Pipe>();
expectTypeOf(pipeSync).returns.toEqualTypeOf<Pipe>();

// What it can do, and has done

expectTypeOf(capabilities).returns.toEqualTypeOf<Capabilities>();
expectTypeOf(stats).returns.toEqualTypeOf<Stats>();
expectTypeOf<Stats>().toEqualTypeOf<{
  transfers: Record<Backend, number>;
  bytes: Record<Backend, number>;
  fallbacks: Record<FallbackCode, number>;
  failures: number;
  underWay: number;
}>();
