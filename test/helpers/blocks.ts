// Blocks of code of the pages: type-checked, and run as they stand.
import { createRequire } from 'node:module';
import * as path from 'node:path';
import ts from 'typescript';
import type * as zerocopy from 'zerocopy';
import type { Block } from './markdown';

const require = createRequire(import.meta.url);
/** Its names and no others, whatever an import adds to them. */
export const library: typeof zerocopy = require('zerocopy');

const CHECKED: ts.CompilerOptions = {
  strict: true,
  noEmit: true,
  skipLibCheck: true,
  target: ts.ScriptTarget.ES2022,
  lib: ['lib.es2022.d.ts'],
  module: ts.ModuleKind.ESNext,
  moduleResolution: ts.ModuleResolutionKind.Bundler,
  moduleDetection: ts.ModuleDetectionKind.Force, // await at the top, and names of its own
  types: ['node'],
};

/** What the compiler has against some blocks, each a module beside docs/names.d.ts. */
export function complaintsOf(blocks: Block[]): string[] {
  const sources = new Map(
    blocks.map((block) => [path.resolve(`${block.page}.${block.line}.ts`), block]),
  );
  const host = ts.createCompilerHost(CHECKED);
  const { getSourceFile, fileExists } = host;
  host.fileExists = (file) => sources.has(file) || fileExists(file);
  host.getSourceFile = (file, options, ...rest) => {
    const block = sources.get(file);
    if (!block) return getSourceFile(file, options, ...rest);
    return ts.createSourceFile(file, block.text, options);
  };
  const program = ts.createProgram(
    [...sources.keys(), path.resolve('docs/names.d.ts')],
    CHECKED,
    host,
  );
  return ts.getPreEmitDiagnostics(program).map(({ file, start, messageText }) => {
    const block = sources.get(file?.fileName ?? '');
    const within = file && start !== undefined ? file.getLineAndCharacterOfPosition(start).line : 0;
    const where = block ? `${block.page}:${block.line + 1 + within}` : (file?.fileName ?? '');
    return `${where}: ${ts.flattenDiagnosticMessageText(messageText, '\n')}`;
  });
}

/** What a block has called of the library, and what came of it. */
export interface Calls {
  results: (zerocopy.TransferResult | zerocopy.RelayResult)[];
  streams: zerocopy.ReadStream[];
}

interface RunOptions {
  /** Values of what the block doesn't declare. */
  names?: Record<string, unknown>;
  /** What it says, and what it is to say here: paths, mostly. */
  replaced?: Record<string, string>;
  /** What it imports, where that isn't the real thing. */
  modules?: Record<string, unknown>;
  /** What it declares, to be handed back. */
  declared?: string[];
}

const AsyncFunction = (async () => {}).constructor as new (
  ...args: string[]
) => (...args: unknown[]) => Promise<Record<string, unknown>>;

/** Runs a block within this process, and waits for what it has started of the library. */
export async function runBlock(
  { text }: Block,
  { names = {}, replaced = {}, modules = {}, declared = [] }: RunOptions = {},
): Promise<Calls & { values: Record<string, unknown> }> {
  let source = text;
  for (const [old, replacement] of Object.entries(replaced)) {
    if (!source.includes(old)) throw new Error(`The block doesn't say ${old}`);
    source = source.replaceAll(old, replacement);
  }
  const { recorded, calls, settled } = record();
  const load = (name: string) => modules[name] ?? (name === 'zerocopy' ? recorded : require(name));
  const { outputText } = ts.transpileModule(source, {
    compilerOptions: { module: ts.ModuleKind.CommonJS, target: ts.ScriptTarget.ES2022 },
  });
  const all = { ...recorded, ...names };
  const body = `${outputText}\nreturn { ${declared.join(', ')} };`;
  const run = new AsyncFunction('require', 'exports', ...Object.keys(all), body);
  const values = await run(load, {}, ...Object.values(all));
  await settled();
  return { ...calls, values };
}

/** The library, with a record of what is asked of it. */
function record() {
  const calls: Calls = { results: [], streams: [] };
  const pending: Promise<unknown>[] = [];
  const noted =
    <Args extends unknown[], Result extends Calls['results'][number]>(
      call: (...args: Args) => Promise<Result>,
    ) =>
    (...args: Args) => {
      const called = call(...args);
      const told = called.then((result) => calls.results.push(result));
      pending.push(told.catch(() => {})); // which the block's own promise tells
      return called;
    };
  const recorded = {
    ...library,
    transfer: noted(library.transfer),
    relay: noted(library.relay),
    copyFile: noted(library.copyFile),
    createReadStream: (...args: Parameters<typeof library.createReadStream>) => {
      const stream = library.createReadStream(...args);
      calls.streams.push(stream);
      return stream;
    },
  };
  return { recorded, calls, settled: () => Promise.all(pending) };
}
