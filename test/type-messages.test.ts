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
  expect(text.join('\n\n')).toMatchInlineSnapshot();
});

test('what an editor shows', () => {
  const shown = ['transfer', 'createReadStream', 'copyFile', 'relay', 'stats'];
  const types = ['Source', 'Sink', 'Segment', 'TransferOptions', 'TransferResult', 'FallbackCode'];
  const text = `import type { ${types.join(', ')} } from 'zerocopy';\n${shown.join(';\n')};\n`;
  const { names, files, host } = modulesOf([text]);
  const [name = ''] = names;
  const service = ts.createLanguageService({
    ...host,
    getCompilationSettings: () => OPTIONS,
    getScriptFileNames: () => names,
    getScriptVersion: () => '1',
    getScriptSnapshot: (file) => {
      const content = host.readFile(file);
      return content === undefined ? undefined : ts.ScriptSnapshot.fromString(content);
    },
  });
  const source = files.get(name) ?? '';
  const quickInfo = (word: string) => {
    const at = source.search(new RegExp(`\\b${word}\\b`));
    return ts.displayPartsToString(service.getQuickInfoAtPosition(name, at)?.displayParts);
  };
  expect([...shown, ...types].map(quickInfo).join('\n\n')).toMatchInlineSnapshot();
});
