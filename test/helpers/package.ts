// The package as npm publishes it, and projects that it is installed into: without network, compiler, or
// anything else on PATH than Node and a shell.
import { execFile, execFileSync } from 'node:child_process';
import * as fs from 'node:fs';
import * as os from 'node:os';
import * as path from 'node:path';
import { promisify } from 'node:util';
import { afterAll } from 'vitest';
import { targetHere } from '../binaries/targets.mjs';
import { binary, compiledBinary } from './binary';

const run = promisify(execFile);
const root = path.resolve('.');

/** Not in this repository, whose node_modules would stand in for what the package forgets to ask for. */
const outside = fs.mkdtempSync(path.join(os.tmpdir(), 'zerocopy-package-'));
afterAll(() => fs.rmSync(outside, { recursive: true, maxRetries: 5 }));

export interface Packed {
  tarball: string;
  files: string[];
  bytes: number;
}

const newFolder = () => fs.mkdtempSync(path.join(outside, 'folder-'));

/**
 * Packs what is in the tree: with the binaries of $ZEROCOPY_PREBUILDS (.ci/release-check.mjs), else with
 * the one that has been compiled, stripped.
 */
export async function pack(): Promise<Packed> {
  const stage = newFolder();
  const { files } = JSON.parse(fs.readFileSync('package.json', 'utf8'));
  for (const name of ['package.json', 'README.md', 'LICENSE', ...files]) {
    if (name !== 'prebuilds') fs.cpSync(name, path.join(stage, name), { recursive: true });
  }
  const prebuilds = process.env.ZEROCOPY_PREBUILDS;
  if (prebuilds) fs.cpSync(prebuilds, path.join(stage, 'prebuilds'), { recursive: true });
  else strip(binary, path.join(stage, targetHere().file));
  return packFolder(stage);
}

function strip(from: string, to: string) {
  fs.mkdirSync(path.dirname(to), { recursive: true });
  execFileSync('strip', ['--strip-all', '-o', to, from]);
}

async function packFolder(source: string): Promise<Packed> {
  const folder = newFolder();
  const { stdout } = await npm(folder, ['pack', source, '--json', '--ignore-scripts']);
  const [{ filename, files, size }] = JSON.parse(stdout);
  return {
    tarball: path.join(folder, filename),
    files: files.map(({ path }: { path: string }) => path).sort(),
    bytes: size,
  };
}

/** A project that asks for the package, and has what its dependencies are beside it. */
export async function project({ tarball }: Packed): Promise<string> {
  const folder = newFolder();
  const { dependencies } = JSON.parse(fs.readFileSync('package.json', 'utf8'));
  const local: Record<string, string> = {};
  for (const name of Object.keys(dependencies)) {
    const { tarball } = await packFolder(path.join(root, 'node_modules', name));
    local[name] = `file:${tarball}`;
  }
  const manifest = {
    private: true,
    dependencies: { zerocopy: `file:${tarball}` },
    overrides: local,
  };
  fs.writeFileSync(path.join(folder, 'package.json'), JSON.stringify(manifest));
  const overrides = Object.entries(local).map(([name, file]) => `  ${name}: ${file}\n`);
  fs.writeFileSync(path.join(folder, 'pnpm-workspace.yaml'), `overrides:\n${overrides.join('')}`);
  for (const name of fs.readdirSync('test/package')) {
    fs.copyFileSync(path.join('test/package', name), path.join(folder, name));
  }
  return folder;
}

/** Runs npm, as the machine has it. */
export function npm(cwd: string, args: string[]) {
  return node(cwd, [npmProgram(), ...args]);
}

function npmProgram(): string {
  const folders = (process.env.PATH ?? '').split(path.delimiter);
  const found = folders
    .map((folder) => path.join(folder, 'npm'))
    .find((file) => fs.existsSync(file));
  if (!found) throw new Error('There is no npm on PATH');
  return fs.realpathSync(found);
}

/** A program of the devDependencies. */
export const program = (name: string) => fs.realpathSync(path.join('node_modules/.bin', name));

/** Runs a program as somebody would who has nothing but Node. */
export async function node(cwd: string, args: string[], env: NodeJS.ProcessEnv = {}) {
  return run(process.execPath, args, { cwd, env: { ...bareEnvironment(cwd), ...env } });
}

/** Runs lines of a shell, with programs of a folder and those of the system. */
export async function shell(cwd: string, lines: string, programs: string) {
  return run('/bin/sh', ['-e', '-c', lines], {
    cwd,
    env: { ...bareEnvironment(cwd), PATH: [programs, process.env.PATH].join(path.delimiter) },
  });
}

/** Nothing of what this process has been given, by npm or by a developer. */
function bareEnvironment(home: string): NodeJS.ProcessEnv {
  const programs = path.join(home, 'programs');
  if (!fs.existsSync(programs)) {
    fs.mkdirSync(programs);
    fs.symlinkSync(process.execPath, path.join(programs, 'node'));
    fs.symlinkSync('/bin/sh', path.join(programs, 'sh'));
  }
  return {
    ...compiledBinary,
    PATH: programs,
    HOME: home,
    npm_config_cache: path.join(home, 'cache'),
    npm_config_offline: 'true',
    // Whoever tries all the same reaches nobody.
    npm_config_registry: 'http://127.0.0.1:9/',
  };
}
