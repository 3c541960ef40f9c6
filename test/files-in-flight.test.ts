// docs/files-in-flight.md says what becomes of a file that changes while it is sent: each row, tried.
import { execFileSync } from 'node:child_process';
import * as fs from 'node:fs';
import { describe, expect, test } from 'vitest';
import { type TransferError, transfer } from 'zerocopy';
import { testFile } from './helpers/files';
import { expectSame } from './helpers/http';
import { readPage } from './helpers/markdown';
import { until } from './helpers/process';
import { link, receive, type SocketKind } from './helpers/sockets';

const LENGTH = 4 * 1024 * 1024;
const middleOf = (file: string) => fs.statSync(file).size / 2 + 1000;
const NEW = Buffer.alloc(LENGTH, 'new');
const ZEROS = Buffer.alloc(LENGTH);

/** What somebody does, and what each byte of the receiver's then is: of one of these. */
interface Row {
  change(file: string): void;
  each: ('old' | 'new' | 'zero')[];
  /** How a transfer may end that is on its way. @default as if nothing had happened */
  ends?: (undefined | 'ERR_SOURCE_TRUNCATED')[];
}

const rows: Record<string, Row> = {
  'appends to it': { change: (file) => fs.appendFileSync(file, NEW), each: ['old'] },
  'renames another file over it': {
    change: (file) => {
      fs.writeFileSync(`${file}.new`, NEW);
      fs.renameSync(`${file}.new`, file);
    },
    each: ['old'],
  },
  'renames or unlinks it': { change: (file) => fs.unlinkSync(file), each: ['old'] },
  'rewrites bytes in place': {
    change: (file) => fs.writeFileSync(file, NEW, { flag: 'r+' }),
    each: ['old', 'new'],
  },
  'punches a hole into it': {
    change: (file) =>
      execFileSync('fallocate', ['--punch-hole', '--length', String(middleOf(file)), file]),
    each: ['old', 'zero'],
  },
  'truncates it': {
    change: (file) => fs.truncateSync(file, middleOf(file)),
    each: ['old', 'zero'],
    ends: ['ERR_SOURCE_TRUNCATED'],
  },
  'truncates it and writes it anew': {
    change: (file) => fs.writeFileSync(file, NEW),
    each: ['old', 'new', 'zero'],
    ends: [undefined, 'ERR_SOURCE_TRUNCATED'],
  },
};

test('the page has these rows', () => {
  const [table = []] = readPage('docs/files-in-flight.md').tables;
  const told = table.map((row) => row['while a file is sent, somebody']);
  expect(told.toSorted()).toEqual(Object.keys(rows).toSorted());
});

describe.each(Object.entries(rows))('somebody %s', (_, { change, each, ends = [undefined] }) => {
  test.each<SocketKind>(['tcp', 'unix'])('while it is on its way, over %s', async (kind) => {
    const { path: file, content } = testFile(LENGTH);
    const { sink, peer } = await link({ kind, buffers: 64 * 1024 });
    const sent = transfer(file, sink).catch((error: TransferError) => error);
    await until(() => sink.bytesWritten > 0, 'it is on its way');
    change(file);
    const received = receive(peer);
    const end = await sent;
    sink.end();
    expect(ends).toContain('code' in end ? end.code : undefined);
    if (!('code' in end)) expect(end.transferred).toBe(LENGTH);
    const bytes = await received;
    expect(bytes).toHaveLength(end.transferred);
    expectEach(bytes, content, each);
  });

  test.each<SocketKind>(['tcp', 'unix'])('when it has been accepted, over %s', async (kind) => {
    const { path: file, content } = testFile(100_000);
    const { sink, peer } = await link({ kind });
    const result = await transfer(file, sink, { endSink: true });
    expect(result).toEqual({ transferred: 100_000, backend: 'sendfile' });
    change(file);
    expectEach(await receive(peer), content, each);
  });
});

function expectEach(bytes: Buffer, old: Buffer, each: Row['each']): void {
  if (each.length === 1) return expectSame(bytes, old.subarray(0, bytes.length));
  const allowed = each.map((name) => ({ old, new: NEW, zero: ZEROS })[name]);
  const odd = bytes.findIndex((byte, at) => !allowed.some((content) => content[at] === byte));
  expect(odd, 'the first byte that is none of these').toBe(-1);
}
