// The pages of the repository: their blocks of code, tables, headings and links.
import * as fs from 'node:fs';
import * as path from 'node:path';
import GithubSlugger from 'github-slugger';
import { marked, type Token, type Tokens } from 'marked';

const FOLDERS = ['.', 'docs', 'bench', 'examples'];

export interface Block {
  page: string;
  line: number;
  /** What stands behind the fence: `ts`, `sh`; empty for drawings. */
  language: string;
  text: string;
  /** Its first line, by which it is called; without what a shell takes for a comment. */
  name: string;
}

export interface Page {
  path: string;
  text: string;
  blocks: Block[];
  /** Each row as an object, by the heads of its columns. */
  tables: Record<string, string>[][];
  headings: string[];
  /** What may follow a # in a link to it. */
  anchors: Set<string>;
  /** Where its links and images lead. */
  links: string[];
}

export function pages(): Page[] {
  const paths = FOLDERS.flatMap((folder) =>
    fs
      .readdirSync(folder)
      .filter((name) => name.endsWith('.md'))
      .map((name) => path.join(folder, name)),
  );
  return paths.map(readPage);
}

export function readPage(file: string): Page {
  const text = fs.readFileSync(file, 'utf8');
  const page: Page = {
    path: file,
    text,
    blocks: [],
    tables: [],
    headings: [],
    anchors: new Set(),
    links: [],
  };
  const tokens = marked.lexer(text);
  const slugger = new GithubSlugger();
  let line = 1;
  for (const token of tokens) {
    if (token.type === 'code') page.blocks.push(blockOf(token as Tokens.Code, file, line));
    line += token.raw.split('\n').length - 1;
  }
  let codes = 0;
  marked.walkTokens(tokens, (token) => {
    if (token.type === 'code') codes += 1;
    if (token.type === 'link' || token.type === 'image') page.links.push(token.href);
    if (token.type === 'table') page.tables.push(rowsOf(token as Tokens.Table));
    if (token.type === 'heading') {
      const heading = plainText(token.tokens);
      page.headings.push(heading);
      page.anchors.add(slugger.slug(heading));
    }
  });
  if (codes !== page.blocks.length)
    throw new Error(`${file}: a block of code within another block`);
  return page;
}

function blockOf({ lang, text }: Tokens.Code, page: string, line: number): Block {
  const [first = ''] = text.split('\n');
  return { page, line, language: lang ?? '', text, name: first.replace(/ +# .*/, '') };
}

function rowsOf({ header, rows }: Tokens.Table): Record<string, string>[] {
  const heads = header.map(({ tokens }) => plainText(tokens));
  return rows.map((row) =>
    Object.fromEntries(row.map(({ tokens }, i) => [heads[i] ?? '', plainText(tokens)])),
  );
}

function plainText(tokens: Token[] | undefined): string {
  return (tokens ?? [])
    .map((token) => ('tokens' in token && token.tokens ? plainText(token.tokens) : textOf(token)))
    .join('');
}

function textOf(token: Token): string {
  return 'text' in token && typeof token.text === 'string' ? token.text : token.raw;
}
