import { spawnSync } from 'node:child_process';
import { mkdirSync } from 'node:fs';
import path from 'node:path';
import { buildDirectory, fromBench } from './paths.mjs';

/**
 * Compiles a C program of one file into build/bench.
 * @param {string} source relative to bench/
 * @returns {{ program: string, missing?: undefined } | { program?: undefined, missing: string }}
 */
export function compile(source) {
  const program = path.join(buildDirectory, 'bench', path.basename(source, '.c'));
  mkdirSync(path.dirname(program), { recursive: true });
  const compiler = process.env.CC ?? 'cc';
  const args = ['-O2', '-Wall', '-Wextra', '-o', program, fromBench(source)];
  const { status, error, stderr } = spawnSync(compiler, args, { encoding: 'utf8' });
  if (error) return { missing: `no C compiler: ${error.message}` };
  if (status !== 0) return { missing: `${compiler} ${source}: ${stderr.trim().split('\n')[0]}` };
  return { program };
}
