// What TypeScript says of likely mistakes, and what an editor shows: it should read well.
import * as path from 'node:path';
import * as ts from 'typescript';
import { expect, test } from 'vitest';

const OPTIONS: ts.CompilerOptions = {
  module: ts.ModuleKind.NodeNext,
  moduleResolution: ts.ModuleResolutionKind.NodeNext,
  target: ts.ScriptTarget.ES2022,
  strict: true,
  noEmit: true,
  types: ['node'],
};

const HEAD = `
import { PassThrough } from 'node:stream';
import type { Socket } from 'node:net';
import type { ServerResponse } from 'node:http';
import { capabilities, copyFile, createReadStream, relay, stats, transfer } from 'zerocopy';
declare const socket: Socket, response: ServerResponse, blob: Blob;
`;

const mistakes = {
  'a response as the source': 'await transfer(response, socket);',
  'a Blob as the source': 'await transfer(blob, socket);',
  'no sink': "await transfer('file');",
  'a number in a string': "await transfer('file', socket, { length: '10' });",
  'a bigint': "await transfer('file', socket, { offset: 10n });",
  'the option start, of fs': "await transfer('file', socket, { start: 10 });",
  'a misspelt option': "await transfer('file', socket, { onprogress() {} });",
  'a backend that is none of the choices':
    "await transfer('file', socket, { backend: 'sendfile' });",
  'a segment without a file': "await transfer([{ path: 'file', offset: 10 }], socket);",
  'a relay with a Readable': "await relay(createReadStream('file'), socket);",
  'bytes instead of transferred': "(await transfer('file', socket)).bytes;",
  'a word as a switch': "await copyFile('a', 'b', { holes: 'kept' });",
  'options of a stream of a wrong type': "createReadStream('file', { start: '10' });",
  'a result that is not awaited': "transfer('file', socket).transferred;",
};

/** One module, in memory, for each text; where this package is found by its name. */
function modulesOf(texts: string[]) {
  const names = texts.map((_, i) => path.resolve(`test/module-${i}.mts`));
  const files = new Map(names.map((name, i) => [name, `${HEAD}${texts[i]}\n`]));
  const host = ts.createCompilerHost(OPTIONS);
  const { fileExists, readFile, getSourceFile } = host;
  host.fileExists = (name) => files.has(name) || fileExists(name);
  host.readFile = (name) => files.get(name) ?? readFile(name);
  host.getSourceFile = (name, options) => {
    const text = files.get(name);
    if (text === undefined) return getSourceFile(name, options);
    return ts.createSourceFile(name, text, options);
  };
  return { names, files, host };
}

/** The compiler's messages of each text. */
function messagesOf(texts: string[]): string[] {
  const { names, host } = modulesOf(texts);
  const program = ts.createProgram(names, OPTIONS, host);
  return names.map((name) => {
    const file = program.getSourceFile(name);
    const found = [
      ...program.getSyntacticDiagnostics(file),
      ...program.getSemanticDiagnostics(file),
    ];
    return found
      .map(({ messageText }) => ts.flattenDiagnosticMessageText(messageText, '\n'))
      .join('\n');
  });
}

test('what is right has no messages', () => {
  const right = [
    'await transfer(socket, response, { endSink: true });',
    "await transfer([new Uint8Array(1), { file: 'file', offset: 10 }], socket);",
    "(await copyFile('a', new URL('file:///b'))).fallback?.code === 'TLS';",
    'await relay(socket, new PassThrough());',
    'stats().fallbacks.TLS + stats().bytes.sendfile + capabilities().movers;',
  ];
  expect(messagesOf(right)).toEqual(right.map(() => ''));
});

test('likely mistakes', () => {
  const messages = messagesOf(Object.values(mistakes));
  const text = Object.keys(mistakes).map((name, i) => `${name}:\n${messages[i]}`);
  expect(text.join('\n\n')).toMatchInlineSnapshot(`
    "a response as the source:
    Argument of type 'ServerResponse<IncomingMessage>' is not assignable to parameter of type 'Source | Segment[]'.
      Type 'ServerResponse<IncomingMessage>' is missing the following properties from type 'Readable': readableAborted, readable, readableDidRead, readableEncoding, and 30 more.

    a Blob as the source:
    Argument of type 'Blob' is not assignable to parameter of type 'Source | Segment[]'.
      Type 'Blob' is missing the following properties from type 'Segment[]': length, pop, push, concat, and 28 more.

    no sink:
    Expected 2-3 arguments, but got 1.

    a number in a string:
    Type 'string' is not assignable to type 'number'.

    a bigint:
    Type 'bigint' is not assignable to type 'number'.

    the option start, of fs:
    Object literal may only specify known properties, and 'start' does not exist in type 'TransferOptions'.

    a misspelt option:
    Object literal may only specify known properties, but 'onprogress' does not exist in type 'TransferOptions'. Did you mean to write 'onProgress'?

    a backend that is none of the choices:
    Type '"sendfile"' is not assignable to type '"stream" | "auto" | "native" | undefined'.

    a segment without a file:
    Object literal may only specify known properties, and 'path' does not exist in type 'Segment'.

    a relay with a Readable:
    Argument of type 'ReadStream' is not assignable to parameter of type 'Duplex'.
      Type 'ReadStream' is missing the following properties from type 'Duplex': allowHalfOpen, writable, writableAborted, writableEnded, and 13 more.

    bytes instead of transferred:
    Property 'bytes' does not exist on type 'TransferResult'.

    a word as a switch:
    Type 'string' is not assignable to type 'boolean | undefined'.

    options of a stream of a wrong type:
    Type 'string' is not assignable to type 'number'.

    a result that is not awaited:
    Property 'transferred' does not exist on type 'Promise<TransferResult>'."
  `);
});

test('what an editor shows', () => {
  const shown = ['transfer', 'createReadStream', 'copyFile', 'relay', 'stats'];
  const types = ['Source', 'Sink', 'Segment', 'TransferOptions', 'TransferResult', 'FallbackCode'];
  const text = `import type { ${types.join(', ')} } from 'zerocopy';\n${shown.join(';\n')};\n`;
  const { names, files, host } = modulesOf([text]);
  const [name = ''] = names;
  const { fileExists, readFile, getCurrentDirectory, getDefaultLibFileName } = host;
  const service = ts.createLanguageService({
    fileExists,
    readFile,
    getCurrentDirectory,
    getDefaultLibFileName: () => getDefaultLibFileName(OPTIONS),
    getCompilationSettings: () => OPTIONS,
    getScriptFileNames: () => names,
    getScriptVersion: () => '1',
    getScriptSnapshot: (file) => {
      const content = readFile(file);
      return content === undefined ? undefined : ts.ScriptSnapshot.fromString(content);
    },
  });
  const source = files.get(name) ?? '';
  const quickInfo = (word: string) => {
    const at = source.search(new RegExp(`\\b${word}\\b`));
    return ts.displayPartsToString(service.getQuickInfoAtPosition(name, at)?.displayParts);
  };
  expect([...shown, ...types].map(quickInfo).join('\n\n')).toMatchInlineSnapshot(`
    "(alias) function transfer(source: Source | Segment[], sink: Sink, options?: TransferOptions): Promise<TransferResult>
    import transfer

    (alias) function createReadStream(path: PathLike, options?: BufferEncoding | ReadStreamOptions | undefined): ReadStream
    import createReadStream

    (alias) function copyFile(source: string | URL, sink: string | URL, options?: CopyFileOptions): Promise<TransferResult>
    import copyFile

    (alias) function relay(a: Stream.Duplex, b: Stream.Duplex, options?: RelayOptions): Promise<RelayResult>
    import relay

    (alias) function stats(): Stats
    import stats

    (alias) type Source = FileSource | Stream.Readable
    import Source

    (alias) type Sink = string | number | URL | FileHandle | Stream.Writable
    import Sink

    (alias) type Segment = Uint8Array<ArrayBufferLike> | {
        file: FileSource;
        offset?: number;
        length?: number;
    }
    import Segment

    (alias) interface TransferOptions
    import TransferOptions

    (alias) interface TransferResult
    import TransferResult

    (alias) type FallbackCode = "REQUESTED" | "DISABLED" | "NO_ADDON" | "NO_THREADS" | "SOURCE_STREAM" | "SOURCE_HANDLE" | "SOURCE_OVERRIDDEN" | "SOURCE_ENCODED" | "SOURCE_PARSED" | "SOURCE_BLOCKING" | "SOURCE_TYPE" | "SOURCE_SIZE" | "SOURCE_FS" | "READERS" | "SINK_TYPE" | "SINK_APPEND" | "SINK_HANDLE" | "SINK_OVERRIDDEN" | "SINK_BLOCKING" | "SINK_CORKED" | "NO_BODY" | "STRICT_LENGTH" | "TLS" | "UNSUPPORTED"
    import FallbackCode"
  `);
});
