import { spawnSync } from 'node:child_process';
import { mkdirSync, renameSync } from 'node:fs';
import path from 'node:path';
import { buildDirectory, repository } from './paths.mjs';

/** Where a program is, once it has been compiled. @param {string} source as compile() takes it */
export function programOf(source) {
  return path.join(buildDirectory, 'programs', path.basename(source, '.c'));
}

/**
 * Compiles a C program of one file into build/programs: for the bench, and for tests.
 * @param {string} source relative to the repository
 * @param {string[]} [libraries] as `-lfuse3`
 * @returns {{ program: string, missing?: undefined } | { program?: undefined, missing: string }}
 */
export function compile(source, libraries = []) {
  const program = programOf(source);
  mkdirSync(path.dirname(program), { recursive: true });
  const compiler = process.env.CC ?? 'cc';
  const made = `${program}.${process.pid}`; // others may run what is there
  const args = ['-O2', '-Wall', '-Wextra', '-o', made, path.join(repository, source), ...libraries];
  const { status, error, stderr } = spawnSync(compiler, args, { encoding: 'utf8' });
  if (error) return { missing: `no C compiler: ${error.message}` };
  if (status !== 0) return { missing: `${compiler} ${source}: ${stderr.trim().split('\n')[0]}` };
  renameSync(made, program);
  return { program };
}
