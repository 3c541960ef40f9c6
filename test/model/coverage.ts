// How often each operation was done to each kind of end, and how transfers ended.
import * as fs from 'node:fs';
import * as path from 'node:path';
import { scratchRoot } from '../helpers/files';

const columns = [
  'tcp',
  'unix',
  'pipe',
  'path',
  'fd',
  'FileHandle',
  'tls',
  'passthrough',
  'length',
  'chunked',
] as const;
export type Column = (typeof columns)[number];

type Counts = Record<string, Record<string, number>>;

export class Coverage {
  programs = 0;
  /** Of each program, how many operations were done. */
  operations: number[] = [];
  cells: Counts = {};
  endings: Record<string, number> = {};

  count(operation: string, column: Column): void {
    const row = this.cells[operation] ?? {};
    this.cells[operation] = row;
    row[column] = (row[column] ?? 0) + 1;
  }

  ended(how: string): void {
    this.endings[how] = (this.endings[how] ?? 0) + 1;
  }

  add(other: Coverage): void {
    this.programs += other.programs;
    this.operations.push(...other.operations);
    for (const [operation, row] of Object.entries(other.cells)) {
      const own = this.cells[operation] ?? {};
      this.cells[operation] = own;
      for (const [column, n] of Object.entries(row)) own[column] = (own[column] ?? 0) + n;
    }
    for (const [how, n] of Object.entries(other.endings)) {
      this.endings[how] = (this.endings[how] ?? 0) + n;
    }
  }

  get median(): number {
    const sorted = [...this.operations].sort((a, b) => a - b);
    return sorted[Math.floor(sorted.length / 2)] ?? 0;
  }

  table(): string {
    const names = Object.keys(this.cells).sort();
    const width = Math.max(...names.map((name) => name.length));
    const line = (name: string, cells: string[]) =>
      [name.padEnd(width), ...cells.map((cell) => cell.padStart(11))].join(' ');
    return [
      line('', [...columns]),
      ...names.map((name) => {
        const row = this.cells[name] ?? {};
        return line(
          name,
          columns.map((column) => String(row[column] ?? '·')),
        );
      }),
    ].join('\n');
  }

  /** Which of these operations have never been done to which of these ends. */
  missing(operations: string[], among: readonly Column[]): string[] {
    return operations.flatMap((operation) =>
      among
        .filter((column) => !this.cells[operation]?.[column])
        .map((column) => `${operation}: ${column}`),
    );
  }

  summary(): string {
    const endings = Object.entries(this.endings)
      .sort(([, a], [, b]) => b - a)
      .map(([how, n]) => `${how}: ${n}`);
    return `${this.programs} programs, ${this.median} operations at the median\n${this.table()}\n${endings.join(', ')}`;
  }
}

const folder = path.join(scratchRoot, 'model-coverage');

/** For the table of all test files. */
export function save(coverage: Coverage, name: string): void {
  fs.mkdirSync(folder, { recursive: true });
  fs.writeFileSync(path.join(folder, `${name}.json`), JSON.stringify(coverage));
}

/** What the test files of this run have saved, as one. */
export function collect(): Coverage | undefined {
  if (!fs.existsSync(folder)) return undefined;
  const all = new Coverage();
  for (const name of fs.readdirSync(folder)) {
    const saved = JSON.parse(fs.readFileSync(path.join(folder, name), 'utf8'));
    all.add(Object.assign(new Coverage(), saved));
  }
  fs.rmSync(folder, { recursive: true });
  return all.programs > 0 ? all : undefined;
}
