// What the pages say of the library and of each other is so, as far as a program can tell.
import * as fs from 'node:fs';
import * as path from 'node:path';
import ts from 'typescript';
import { describe, expect, test } from 'vitest';
import { stats } from 'zerocopy';
import { library } from './helpers/blocks';
import { pages, readPage } from './helpers/markdown';

const all = pages();

describe.each(all)('$path', ({ path: file, links }) => {
  test('its links and images lead somewhere', () => {
    const broken = links.filter((link) => {
      if (/^[a-z]+:/.test(link)) return false;
      const [target = '', anchor] = link.split('#');
      const found = target === '' ? file : path.join(path.dirname(file), target);
      if (!fs.existsSync(found)) return true;
      if (anchor === undefined) return false;
      return !all.find((page) => page.path === found)?.anchors.has(anchor);
    });
    expect(broken).toEqual([]);
  });
});

describe('docs/why-not-native.md', () => {
  test('explains every fallback code, and no other', () => {
    const { tables } = readPage('docs/why-not-native.md');
    const rows = tables.flat();
    expect(rows.map((row) => row.code).toSorted()).toEqual(
      Object.keys(stats().fallbacks).toSorted(),
    );
    for (const row of rows) {
      expect(row['what it means']).toMatch(/\w{3}/);
      expect(row['what to do']).toMatch(/\w{3}/);
    }
  });
});

describe('docs/api.md', () => {
  const { headings, text } = readPage('docs/api.md');
  const section = (heading: string) => {
    const start = text.indexOf(`\n## ${heading}`);
    const end = text.indexOf('\n## ', start + 1);
    return text.slice(start, end < 0 ? undefined : end);
  };

  test.each(Object.keys(library))('has %s', (name) => {
    const documented = headings.some((heading) => heading.split('(')[0] === name);
    const ofAnother = name.endsWith('Sync') && text.includes(`\`${name}\``);
    expect(documented || ofAnother).toBe(true);
  });

  test.each([
    ['transfer(', 'lib/options.ts', 'TransferOptions'],
    ['relay(', 'lib/relay.ts', 'RelayOptions'],
    ['copyFile(', 'lib/copy-file.ts', 'CopyFileOptions'],
    ['capabilities(', 'lib/capabilities.ts', 'Capabilities'],
  ])('%s) has every name of %s: %s, and no other', (heading, file, type) => {
    const firstCells = section(heading).matchAll(/^\| (`.*?`) \|/gm);
    const told = [...firstCells].flatMap(([, cell = '']) => cell.replaceAll('`', '').split(', '));
    const inTheResult = ['transferred', 'fallback'];
    const options = [...new Set(told)].filter((name) => !inTheResult.includes(name));
    expect(options.toSorted()).toEqual(membersOf(file, type).toSorted());
  });

  test('has every code that a TransferError may have beside those of the system', () => {
    const source = fs.readFileSync('lib/errors.ts', 'utf8');
    const comment = source.slice(0, source.indexOf('class TransferError'));
    const codes = [...comment.matchAll(/^ \* - `'(\w+)'`/gm)].map(([, code]) => code);
    expect(codes.length).toBeGreaterThan(3);
    const told = [...section('TransferError').matchAll(/^\| `([A-Z_]+)` \|/gm)];
    expect(told.map(([, code]) => code).toSorted()).toEqual(codes.toSorted());
  });
});

describe('docs/observability.md', () => {
  const rows = readPage('docs/observability.md').tables.flat();
  const cells = (column: string) => rows.flatMap((row) => row[column]?.split(', ') ?? []);

  test('has every total', () => {
    expect(cells('field')).toEqual(membersOf('lib/stats.ts', 'Stats'));
  });

  test('has every property of a trace, and every kind of end', () => {
    expect(cells('property')).toEqual(membersOf('lib/observe.ts', 'TransferTrace'));
    const kinds = rows.find(({ property }) => property?.includes('sourceKind'))?.meaning;
    const told = [...(kinds ?? '').matchAll(/'(\w+)'/g)].map(([, kind]) => kind);
    expect(told).toEqual(stringsOf('lib/observe.ts', 'EndpointKind'));
  });

  test('has the exit codes of `npx zerocopy info`', () => {
    const told = rows.flatMap((row) => (row['exit code'] ? [[row['exit code'], row.meaning]] : []));
    const help = fs.readFileSync('lib/cli.ts', 'utf8').matchAll(/^ {2}(\d) {2}(.*)$/gm);
    expect(told).toEqual([...help].map(([, code, meaning]) => [code, meaning]));
    expect(told).toHaveLength(3);
  });
});

test('README.md has every option of transfer(), and no other', () => {
  const rows = readPage('README.md').tables.flat();
  const told = rows.flatMap((row) => row['option of transfer()']?.split(', ') ?? []);
  expect(told.toSorted()).toEqual(membersOf('lib/options.ts', 'TransferOptions').toSorted());
});

function parse(file: string): ts.SourceFile {
  return ts.createSourceFile(file, fs.readFileSync(file, 'utf8'), ts.ScriptTarget.ES2022);
}

function membersOf(file: string, name: string): string[] {
  const source = parse(file);
  const found = source.statements.find(
    (statement) => ts.isInterfaceDeclaration(statement) && statement.name.text === name,
  ) as ts.InterfaceDeclaration;
  return found.members.map((member) => (member.name as ts.Identifier).text);
}

/** The members of a union of strings. */
function stringsOf(file: string, name: string): string[] {
  const found = parse(file).statements.find(
    (statement) => ts.isTypeAliasDeclaration(statement) && statement.name.text === name,
  ) as ts.TypeAliasDeclaration;
  const { types } = found.type as ts.UnionTypeNode;
  return types.map((type) => ((type as ts.LiteralTypeNode).literal as ts.StringLiteral).text);
}
