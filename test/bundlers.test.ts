// The recipes of docs/bundlers.md, as they stand there, on a program that uses the packed package.
import * as fs from 'node:fs';
import { createRequire } from 'node:module';
import * as path from 'node:path';
import { beforeAll, describe, expect, test } from 'vitest';
import { node, npm, pack, project, shell } from './helpers/package';
import { hasSanitizers } from './helpers/sanitizers';

const why = hasSanitizers ? ' (SKIPPED: a binary with sanitizers in it is not packed)' : '';
const require = createRequire(import.meta.url);

/** The block of code below a heading. */
function recipe(heading: string): string {
  const [, section] = fs.readFileSync('docs/bundlers.md', 'utf8').split(`\n## ${heading}\n`);
  const code = section?.match(/^```\w+\n(.*?)^```$/ms)?.[1];
  if (!code) throw new Error(`docs/bundlers.md has no code below ${heading}`);
  return code;
}

describe.skipIf(hasSanitizers)(`a bundle${why}`, { timeout: 60_000 }, () => {
  let folder: string;
  beforeAll(async () => {
    folder = await project(await pack());
    await npm(folder, ['install', '--ignore-scripts']);
    const program = fs.readFileSync('test/package/use.mjs', 'utf8');
    fs.writeFileSync(path.join(folder, 'main.mjs'), `import 'zerocopy/register';\n${program}`);
  }, 60_000);

  /** What a bundle prints, in the folder that it has been put into. */
  const printed = async (file: string) => (await node(folder, [file])).stdout;

  /** Runs a test in which the project can't be what the bundle finds. */
  async function elsewhere(file: string): Promise<string> {
    const hidden = path.join(folder, 'hidden');
    fs.renameSync(path.join(folder, 'node_modules'), hidden);
    try {
      return await printed(file);
    } finally {
      fs.renameSync(hidden, path.join(folder, 'node_modules'));
    }
  }

  test('of esbuild, without the package', async () => {
    await shell(folder, recipe('esbuild: left out'), path.resolve('node_modules/.bin'));
    expect(await printed('out/main.cjs')).toBe('read sendfile\n');
    await expect(elsewhere('out/main.cjs')).rejects.toThrow(/Cannot find module 'zerocopy/);
  });

  test('of esbuild, with a copy of the binaries', async () => {
    await shell(folder, recipe('esbuild: copied'), path.resolve('node_modules/.bin'));
    expect(await elsewhere('out/app/main.cjs')).toBe('read sendfile\n');
    fs.renameSync(path.join(folder, 'out/prebuilds'), path.join(folder, 'out/elsewhere'));
    expect(await elsewhere('out/app/main.cjs')).toBe('stream stream\n');
  });

  test('of webpack, without the package', async () => {
    fs.writeFileSync(path.join(folder, 'webpack.config.cjs'), recipe('webpack: left out'));
    fs.writeFileSync(
      path.join(folder, 'build.cjs'),
      `require(${JSON.stringify(require.resolve('webpack'))})(
        require('./webpack.config.cjs'),
        (error, stats) => console.log(error ?? stats.toString({ all: false, errors: true })),
      );`,
    );
    expect(await node(folder, ['build.cjs'])).toEqual({ stdout: '\n', stderr: '' });
    expect(await printed('out/main.cjs')).toBe('read sendfile\n');
  });
});
