// docs/endpoints.md says which pair of endpoints takes which way: every cell of its tables, tried.
import * as fs from 'node:fs';
import * as path from 'node:path';
import type { Duplex } from 'node:stream';
import { describe, expect, test } from 'vitest';
import { type Backend, copyFile, relay, type TransferResult, transfer } from 'zerocopy';
import { expectContent, newFile, otherFolder, procFile, wayBetween } from './helpers/copies';
import { duplexPair, sinks, sources } from './helpers/endpoints';
import { pattern, scratchFolder, testFile } from './helpers/files';
import { expectSame } from './helpers/http';
import { runNode } from './helpers/process';
import { ends } from './helpers/relay';
import { secureLink } from './helpers/tls';

const MIB = 1024 * 1024;
const text = fs.readFileSync('docs/endpoints.md', 'utf8');

/** The tables of the page, each with its head. */
const tables = text
  .split(/\n{2,}/)
  .filter((block) => block.startsWith('|'))
  .map((block) => {
    const cellsOf = (line: string) => line.split('|').slice(1, -1).map(unquoted);
    const [head = [], , ...rows] = block.trim().split('\n').map(cellsOf);
    return { head, rows };
  });
const [pairs, relays, wholeFiles] = tables as [Table, Table, Table];

interface Table {
  head: string[];
  rows: string[][];
}

function unquoted(cell: string): string {
  return cell.trim().replace(/^`(.*)`$/, '$1');
}

/** What a cell says: a way, or streams and why. */
function wayOf(cell: string): { backend: Backend; code: string | undefined } {
  const [backend, code] = cell.split(': ') as [Backend, string?];
  return { backend, code };
}

function expectWay(
  { backend, fallback }: Pick<TransferResult, 'backend' | 'fallback'>,
  cell: string,
  asked: 'auto' | 'native' | 'stream',
): void {
  const wanted = asked === 'stream' ? 'stream: REQUESTED' : cell;
  expect(fallback ? `${backend}: ${fallback.code}` : backend).toBe(wanted);
  if (fallback) expect(fallback.at).toBe(0);
}

const variantsOf = <End>(of: Record<string, Record<string, End>>, kind: string) =>
  Object.entries(of[kind] ?? {});

describe('the page', () => {
  test('has a row for every kind of source, and a column for every kind of sink', () => {
    const [, ...columns] = pairs.head;
    expect(columns).toEqual(Object.keys(sinks));
    expect(pairs.rows.map(([row]) => row)).toEqual(Object.keys(sources));
    for (const [, ...cells] of pairs.rows) expect(cells).toHaveLength(columns.length);
  });
});

for (const [kindOfSource = '', ...cells] of pairs.rows) {
  describe(`transfer: ${kindOfSource}`, () => {
    for (const [column, cell] of cells.entries()) {
      const kindOfSink = pairs.head[column + 1] ?? '';
      const { backend: way, code } = wayOf(cell);
      describe(`→ ${kindOfSink}: ${cell}`, () => {
        for (const [sourceName, makeSource] of variantsOf(sources, kindOfSource)) {
          for (const [sinkName, makeSink] of variantsOf(sinks, kindOfSink)) {
            const name = `${sourceName} → ${sinkName}`;
            const asked = way === 'stream' ? (['auto', 'stream'] as const) : ways;

            test.each(asked)(`${name}, asked for %s`, async (backend) => {
              const [{ source, content }, { sink, options, arrived }] = await Promise.all([
                makeSource(),
                makeSink(),
              ]);
              const result = await transfer(source, sink, { ...options, backend });
              expect(result.transferred).toBe(content.length);
              expectWay(result, cell, backend);
              expectSame(await arrived(), content);
            });

            if (way !== 'stream') continue;
            test(`${name}, refused for native`, async () => {
              const [{ source }, { sink, options }] = await Promise.all([makeSource(), makeSink()]);
              const refused = transfer(source, sink, { ...options, backend: 'native' });
              await expect(refused).rejects.toMatchObject({
                code: 'ERR_NOT_NATIVE',
                transferred: 0,
                cause: { code },
              });
            });
          }
        }
      });
    }
  });
}

const ways = ['auto', 'stream', 'native'] as const;

describe('process.stdin over a pipe is a pipe as any other', () => {
  test.each([
    ['file', 'path'],
    ['TCP or Unix socket', 'TCP'],
  ])('→ %s', async (kind) => {
    const row = pairs.rows.find(([row]) => row === 'pipe') ?? [];
    const cell = row[pairs.head.indexOf(kind)] ?? '';
    const file = testFile(MIB + 4097);
    const sink = newFile();
    // Runs the program with a pipe, and no Unix socket, for its input.
    const wrapper = ['sh', '-c', `cat '${file.path}' | "$@"`, 'sh'];
    const args = [kind === 'file' ? 'file' : 'socket', sink];
    const { code, stdout, stderr } = await runNode('stdin.mjs', args, { wrapper });
    expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
    const result = JSON.parse(stdout) as TransferResult;
    expect(result.transferred).toBe(MIB + 4097);
    expectWay(result, cell, 'auto');
    expectContent(sink, file.content);
  });
});

test.each(['TCP or Unix socket', 'pipe'])('a small file → %s: read', async (kind) => {
  for (const [size, way] of [
    [24 * 1024, 'read'],
    [24 * 1024 + 1, kind === 'pipe' ? 'splice' : 'sendfile'],
  ] as const) {
    for (const [, makeSink] of variantsOf(sinks, kind)) {
      const file = testFile(size);
      const { sink, options, arrived } = await makeSink();
      const result = await transfer(file.path, sink, options);
      expect(result).toEqual({ transferred: size, backend: way });
      expectSame(await arrived(), file.content);
    }
  }
});

/** An end of a relay, and what is at its other end. */
interface Side {
  near: Duplex;
  far: Duplex;
}

const relayEnds: Record<string, () => Promise<Side> | Side> = {
  'TCP or Unix socket': async () => {
    const { a, aPeer } = await ends();
    return { near: a, far: aPeer };
  },
  'TLS socket': secureLink,
  'other Duplex': duplexPair,
};

async function readWhole(stream: Duplex): Promise<Buffer> {
  const chunks: Buffer[] = [];
  stream.on('data', (chunk) => chunks.push(chunk));
  stream.resume();
  await new Promise((resolve, reject) => stream.once('end', resolve).once('error', reject));
  return Buffer.concat(chunks);
}

describe('relay', () => {
  for (const [kindOfA = '', kindOfB = '', cell = ''] of relays.rows) {
    const { backend: way, code } = wayOf(cell);
    const sidesOf = () =>
      Promise.all([kindOfA, kindOfB].map((kind) => relayEnds[kind]?.() as Promise<Side> | Side));
    const asked = way === 'stream' ? (['auto', 'stream'] as const) : ways;

    test.each(asked)(`${kindOfA} · ${kindOfB}: ${cell}, asked for %s`, async (backend) => {
      const [a, b] = (await sidesOf()) as [Side, Side];
      const [there, back] = [pattern(MIB + 4097, 1), pattern(MIB + 1, 2)];
      const relayed = relay(a.near, b.near, { backend });
      const arrived = Promise.all([readWhole(b.far), readWhole(a.far)]);
      a.far.end(there);
      b.far.end(back);
      const result = await relayed;
      expect(result).toMatchObject({ aToB: there.length, bToA: back.length });
      expectWay(result, cell, backend);
      const [atB, atA] = await arrived;
      expectSame(atB, there);
      expectSame(atA, back);
    });

    if (way !== 'stream') continue;
    test(`${kindOfA} · ${kindOfB}: refused for native`, async () => {
      const [a, b] = (await sidesOf()) as [Side, Side];
      for (const { near, far } of [a, b]) {
        for (const stream of [near, far]) stream.on('error', () => {});
      }
      await expect(relay(a.near, b.near, { backend: 'native' })).rejects.toMatchObject({
        code: 'ERR_NOT_NATIVE',
        transferred: 0,
        cause: { code },
      });
    });
  }
});

/** A file to copy, and where to. */
const filesToCopy: Record<string, () => Promise<{ path: string; content: Buffer; to: string }>> = {
  'file on the same file system': async () => ({ ...testFile(MIB + 1), to: scratchFolder() }),
  'file on another file system': async () => ({ ...testFile(MIB + 1), to: otherFolder() }),
  '/proc-like file': async () => ({ ...(await procFile()), to: scratchFolder() }),
};

describe('copyFile', () => {
  test('the page has a row for every kind', () => {
    expect(wholeFiles.rows.map(([row]) => row)).toEqual(Object.keys(filesToCopy));
  });

  for (const [kind = '', cell = ''] of wholeFiles.rows) {
    test.each(ways)(`${kind}: ${cell}, asked for %s`, async (backend) => {
      const file = await filesToCopy[kind]?.();
      if (!file) throw new Error(`no such file: ${kind}`);
      const sink = newFile(file.to);
      const result = await copyFile(file.path, sink, { backend });
      expect(result.transferred).toBe(file.content.length);
      // As the page says, that depends on the kernel.
      const across = kind === 'file on another file system';
      const way = across ? wayBetween(path.dirname(file.path), file.to) : cell;
      expectWay(result, way, backend);
      expectContent(sink, file.content);
    });
  }
});
