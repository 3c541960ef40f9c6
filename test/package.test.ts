// The package as npm publishes it: what is in it, and that it works wherever it is installed.
import { execFileSync } from 'node:child_process';
import * as fs from 'node:fs';
import * as path from 'node:path';
import { beforeAll, describe, expect, test } from 'vitest';
import { TARGETS, targetHere } from './binaries/targets.mjs';
import { node, npm, type Packed, pack, program, project } from './helpers/package';
import { hasSanitizers } from './helpers/sanitizers';

const why = hasSanitizers ? ' (SKIPPED: a binary with sanitizers in it is not packed)' : '';

/** What exchange.cjs prints. */
const NATIVE = 'read sendfile\n';
const STREAMS = 'stream stream\n';

/** Packed; of each binary, and of all the rest. */
const MAX_BINARY_BYTES = 150_000;
const MAX_REST_BYTES = 260_000;

/** All of them in a release, else the one that has been compiled. */
const targets = process.env.ZEROCOPY_PREBUILDS ? Object.values(TARGETS) : [targetHere()];

describe.skipIf(hasSanitizers)(`the package${why}`, { timeout: 120_000 }, () => {
  let packed: Packed;
  beforeAll(async () => {
    packed = await pack();
  }, 60_000);

  test('has in it what belongs there', () => {
    const tracked = (folder: string) =>
      execFileSync('git', ['ls-files', '--cached', '--others', '--exclude-standard', folder], {
        encoding: 'utf8',
      })
        .split('\n')
        .filter((name) => fs.existsSync(name) && name !== '');
    const sources = tracked('lib');
    const compiled = sources.flatMap((name) => {
      const stem = name.replace(/^lib(.*)\.ts$/, 'dist$1');
      return [`${stem}.d.ts`, `${stem}.js`, `${stem}.js.map`];
    });
    const others = ['CHANGELOG.md', 'LICENSE', 'README.md', 'binding.gyp', 'package.json'];
    const binaries = targets.map(({ file }) => file);
    const expected = [...sources, ...compiled, ...tracked('native'), ...others, ...binaries];
    expect(packed.files).toEqual(expected.sort());
  });

  test('is small', () => {
    expect(packed.bytes).toBeLessThan(MAX_REST_BYTES + targets.length * MAX_BINARY_BYTES);
  });

  describe('installed by npm without scripts', () => {
    let folder: string;
    beforeAll(async () => {
      folder = await project(packed);
      await npm(folder, ['install', '--ignore-scripts']);
    }, 60_000);

    test.each(['use.mjs', 'use.cjs'])('%s', async (file) => {
      const { stdout, stderr } = await node(folder, [file]);
      expect({ stdout, stderr }).toEqual({ stdout: NATIVE, stderr: '' });
    });

    test('use.jest.cjs', async () => {
      const args = ['--rootDir', folder, '--testMatch', '**/*.jest.cjs', '--watchman=false'];
      const env = { EXPECTED: NATIVE.trim() };
      const { stderr } = await node(folder, [program('jest'), ...args], env);
      expect(stderr).toMatch(/Tests: +2 passed, 2 total/);
    });

    describe('typed.ts', () => {
      const compile = (options: string[], ...files: string[]) => {
        const strict = ['--strict', '--exactOptionalPropertyTypes', '--target', 'es2022'];
        const args = [...strict, '--types', 'node', ...options, ...files];
        return node(folder, [program('tsc'), ...args]);
      };
      beforeAll(() => {
        // Which a project that asks for it has beside the package.
        for (const name of ['@types/node', 'undici-types']) {
          const types = path.join(folder, 'node_modules', name);
          fs.cpSync(path.resolve('node_modules', name), types, { recursive: true });
        }
        for (const name of ['typed.mts', 'typed.cts']) {
          fs.copyFileSync('test/package/typed.ts', path.join(folder, name));
        }
      });

      test('nodenext', async () => {
        await compile(['--module', 'nodenext'], 'typed.mts', 'typed.cts');
        for (const file of ['typed.mjs', 'typed.cjs']) {
          const { stdout, stderr } = await node(folder, [file]);
          expect({ file, stdout, stderr }).toEqual({ file, stdout: NATIVE, stderr: '' });
        }
      });

      test('bundler', async () => {
        const options = ['--module', 'esnext', '--moduleResolution', 'bundler', '--noEmit'];
        await compile(options, 'typed.ts');
      });
    });

    test.each(['darwin', 'win32'])('on %s it streams', async (platform) => {
      const faked = path.join(folder, `${platform}.cjs`);
      fs.writeFileSync(
        faked,
        `Object.defineProperty(process, 'platform', { value: '${platform}' });`,
      );
      const installed = await node(folder, [
        '--require',
        faked,
        'node_modules/zerocopy/native/install.js',
      ]);
      expect(installed).toEqual({ stdout: '', stderr: '' });
      const { stdout, stderr } = await node(folder, ['--require', faked, 'use.mjs']);
      expect({ stdout, stderr }).toEqual({ stdout: STREAMS, stderr: '' });
    });
  });

  test('installed by npm with scripts: nothing is compiled', async () => {
    const folder = await project(packed);
    await npm(folder, ['install']);
    expect(fs.existsSync(path.join(folder, 'node_modules/zerocopy/build'))).toBe(false);
    expect((await node(folder, ['use.mjs'])).stdout).toBe(NATIVE);
  });

  test('installed where there is no binary for it, nor a compiler: it streams', async () => {
    const folder = await project(packed);
    await npm(folder, ['install', '--ignore-scripts']);
    fs.rmSync(path.join(folder, 'node_modules/zerocopy/prebuilds'), { recursive: true });
    const { stderr } = await npm(folder, ['rebuild', 'zerocopy', '--foreground-scripts']);
    expect(stderr).toMatch(/no binary was built .*it will work through streams/);
    expect((await node(folder, ['use.mjs'])).stdout).toBe(STREAMS);
  });

  test('installed by pnpm', async () => {
    const folder = await project(packed);
    await node(folder, [program('pnpm'), 'install', '--store-dir', path.join(folder, 'store')]);
    expect(fs.lstatSync(path.join(folder, 'node_modules/zerocopy')).isSymbolicLink()).toBe(true);
    expect((await node(folder, ['use.mjs'])).stdout).toBe(NATIVE);
    expect((await node(folder, ['use.cjs'])).stdout).toBe(NATIVE);
  });

  test('publint finds nothing', async () => {
    const { publint } = await import('publint');
    const { messages } = await publint({
      pack: { tarball: fs.readFileSync(packed.tarball).buffer },
    });
    expect(messages).toEqual([]);
  });

  test('Are the types wrong? No', async () => {
    const { stdout } = await node(path.dirname(packed.tarball), [
      program('attw'),
      packed.tarball,
      '--format',
      'json',
    ]);
    expect(JSON.parse(stdout).analysis.problems).toEqual([]);
  });
});
