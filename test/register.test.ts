import * as fs from 'node:fs';
import * as os from 'node:os';
import * as path from 'node:path';
import { describe, expect, onTestFinished, test } from 'vitest';
import { binary } from './helpers/binary';
import { scratchFolder, sha256, testFile } from './helpers/files';
import { runNode } from './helpers/process';

type Options = Parameters<typeof runNode>[2];

const IMPORT = ['--import', 'zerocopy/register'];

/** Runs a program of test/programs/register, which must be silent but for what it tells. */
async function run(program: string, args: string[], options: Options = {}) {
  const { code, stdout, stderr } = await runNode(`register/${program}`, args, options);
  expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
  return JSON.parse(stdout);
}

/** How a file of more bytes than the short way takes is served. */
function whole(length = 100_000) {
  const { path: file, content } = testFile(length);
  return { file, wanted: { status: 200, sha256: sha256(content) } };
}

const ways = [
  "require('fs')",
  "require('node:fs')",
  "import fs from 'node:fs'",
  "import { createReadStream } from 'node:fs'",
  "import * as all from 'fs'",
  "await import('fs')",
];

/** What programs tell of every way to get at the function, when it serves as is given. */
function everywhere(served: object) {
  // This process has Node's.
  const { name, length } = fs.createReadStream;
  expect({ name, length }).toEqual({ name: 'createReadStream', length: 2 });
  return Object.fromEntries(ways.map((way) => [way, { name, length, ...served }]));
}

describe('createReadStream is ours however it is got at', () => {
  const loads: [string, string, Options][] = [
    ['--import', 'none.mjs', { execArgv: IMPORT }],
    ['--require', 'none.mjs', { execArgv: ['--require', 'zerocopy/register'] }],
    ['both', 'none.mjs', { execArgv: [...IMPORT, '--require', 'zerocopy/register'] }],
    ['NODE_OPTIONS', 'none.mjs', { env: { NODE_OPTIONS: '--require zerocopy/register' } }],
    ["import 'zerocopy/register'", 'import.mjs', {}],
    ['an import that comes last', 'import-last.mjs', {}],
    ["require('zerocopy/register')", 'require.cjs', {}],
  ];
  test.each(loads)('%s', async (_name, program, options) => {
    const { file, wanted } = whole();
    expect(await run(program, [file], options)).toEqual({
      one: true,
      ours: true,
      told: everywhere({ ...wanted, backend: 'sendfile' }),
    });
  });

  test('and without register it is not', async () => {
    const { file, wanted } = whole();
    const found = await run('none.mjs', [file]);
    expect(found).toEqual({ one: true, ours: false, told: everywhere(wanted) });
  });
});

test('with ZEROCOPY_BACKEND=stream it is ours, and an ordinary stream', async () => {
  const { file, wanted } = whole();
  const options = { execArgv: IMPORT, env: { ZEROCOPY_BACKEND: 'stream' } };
  expect(await run('none.mjs', [file], options)).toEqual({
    one: true,
    ours: true,
    told: everywhere({ ...wanted, backend: 'stream', fallback: 'DISABLED' }),
  });
});

test('with --no-addons it is ours, and an ordinary stream', async () => {
  const { file, wanted } = whole();
  const options = { execArgv: ['--no-addons', ...IMPORT] };
  expect(await run('none.mjs', [file], options)).toEqual({
    one: true,
    ours: true,
    told: everywhere({ ...wanted, backend: 'stream', fallback: 'NO_ADDON' }),
  });
});

describe('in a worker thread', () => {
  const loads: [string, string, Options][] = [
    ["by the process's options", 'none', { execArgv: IMPORT }],
    ['by --require', 'none', { execArgv: ['--require', 'zerocopy/register'] }],
    ["by the worker's options", 'option', {}],
    ['by an import there', 'import', {}],
  ];
  test.each(loads)('%s', async (_name, way, options) => {
    const { file, wanted } = whole();
    expect(await run('worker.mjs', [file, way], options)).toEqual({
      one: true,
      ours: true,
      told: everywhere({ ...wanted, backend: 'sendfile' }),
      code: 0,
    });
  });

  test('and else it is not', async () => {
    const { file, wanted } = whole();
    const found = await run('worker.mjs', [file, 'none']);
    expect(found).toEqual({ one: true, ours: false, told: everywhere(wanted), code: 0 });
  });
});

describe('of two copies of the package', () => {
  function copyOfPackage(): string {
    const folder = scratchFolder();
    for (const name of ['dist', 'package.json', path.relative('.', binary)])
      fs.cpSync(name, path.join(folder, name), { recursive: true });
    return folder;
  }

  test.each(['this one', 'the copy'])('the first stays: %s', async (which) => {
    const { file, wanted } = whole();
    const copies = [path.resolve('.'), copyOfPackage()];
    if (which === 'the copy') copies.reverse();
    const native = { ...wanted, backend: 'sendfile' };
    expect(await run('twice.cjs', [file, ...copies])).toEqual({
      copies: true,
      first: true,
      served: [native, native, native],
    });
  });

  test('the first stays: by --import, and another by the app', async () => {
    const { file, wanted } = whole();
    const copies = [path.resolve('.'), copyOfPackage()];
    const native = { ...wanted, backend: 'sendfile' };
    expect(await run('twice.cjs', [file, ...copies], { execArgv: IMPORT })).toMatchObject({
      first: true,
      served: [native, native, native],
    });
  });
});

describe('with graceful-fs, loaded in this order', () => {
  const orders: [string, object][] = [
    ['load,register', { backend: 'sendfile' }],
    ['register,load', {}],
    ['gracefulify,register', {}],
    ['register,gracefulify', {}],
  ];
  test.each(orders)('%s', async (order, native) => {
    const { path: file, content } = testFile(100_000);
    fs.writeFileSync(file, '0123456789abcdefghijklmnop', { flag: 'r+' });
    content.write('0123456789abcdefghijklmnop');
    const wanted = { status: 200, sha256: sha256(content) };
    expect(await run('graceful-fs.cjs', [file, order])).toMatchObject({
      ofNode: { ...wanted, ...native },
      graceful: wanted,
      range: { status: 200, text: 'abcdefghij' },
      missing: { status: 500, text: 'ENOENT' },
    });
  });
});

const mockable = Number.parseInt(process.versions.node, 10) < 26;
const unlessMockable = mockable ? '' : ' (SKIPPED: mock-fs 5.5 does not load on Node 26)';

describe.skipIf(!mockable)(`with mock-fs, loaded in this order${unlessMockable}`, () => {
  test.each(['register,load', 'load,register', 'register,load,mock', 'load,mock,register'])(
    '%s',
    async (order) => {
      const { file, wanted } = whole();
      const { wanted: long, ...told } = await run('mock-fs.cjs', [
        file,
        path.dirname(binary),
        order,
      ]);
      const stream = { backend: 'stream', fallback: 'SOURCE_FS' };
      const found = (text: string) => ({ status: 200, text, ...stream });
      const missing = { status: 500, text: 'ENOENT' };
      expect(told).toMatchObject({
        ...(!order.includes('mock') && { before: wanted }),
        mocked: found('mocked'),
        short: found('only mocked'),
        range: found('moc'),
        long: { status: 200, sha256: long, ...stream },
        missing,
        descriptor: found('only mocked'),
        after: wanted,
        gone: missing,
      });
    },
  );
});

test('what an app puts in its place afterwards is left alone', async () => {
  const { file } = whole();
  expect(await run('replaced.cjs', [file])).toEqual({
    alone: true,
    served: { status: 200, text: 'from memory' },
  });
});

test.each(['before', 'after'])(
  'what an app puts in the place of fs.open and fs.read %s it is not gone round',
  async (order) => {
    const { file } = whole();
    const { status, text } = await run('patched.cjs', [file, order]);
    expect({ status, text }).toEqual({ status: 200, text: 'from memory' });
  },
);

test("nothing that is deprecated is heard of but the app's own", async () => {
  const { file, wanted } = whole();
  const execArgv = ['--pending-deprecation', '--trace-deprecation'];
  const { code, stdout, stderr } = await runNode('register/deprecation.cjs', [file], { execArgv });
  expect({ code, ...JSON.parse(stdout) }).toEqual({ code: 0, ...wanted, backend: 'sendfile' });
  expect(stderr.match(/DeprecationWarning/g)).toHaveLength(1);
  expect(stderr).toContain('[DEP0111]');
  expect(stderr).toContain('deprecation.cjs');
  expect(stderr).not.toContain(path.resolve('dist'));
});

describe("under Node's permission model", () => {
  const flag = process.allowedNodeEnvironmentFlags.has('--permission')
    ? '--permission'
    : '--experimental-permission';
  // Since Node 25 it is the network too.
  const network = process.allowedNodeEnvironmentFlags.has('--allow-net') ? ['--allow-net'] : [];

  /** Outside of the repository, all of which may be read. */
  function outside() {
    const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'zerocopy-'));
    onTestFinished(() => fs.rmSync(folder, { recursive: true }));
    const { path: file, content } = testFile(100_000, folder);
    return { file, wanted: { status: 200, sha256: sha256(content) } };
  }

  async function runAllowed(file: string, allowed: string[], extra: string[]) {
    const allow = [path.resolve('.'), ...allowed].map((name) => `--allow-fs-read=${name}`);
    const execArgv = [flag, ...network, ...allow, ...extra];
    const ended = await runNode('register/none.mjs', [file], { execArgv });
    expect(ended.stderr).not.toMatch(/Error/);
    expect(ended.code).toBe(0);
    return JSON.parse(ended.stdout);
  }

  // node-gyp-build looks for that file.
  const alpine = '--allow-fs-read=/etc/alpine-release';
  const addons: [string, string[], object][] = [
    ['with addons', ['--allow-addons', alpine], { backend: 'sendfile' }],
    ['with addons, and no file outside the app', ['--allow-addons'], {}],
    ['without addons', [alpine], { backend: 'stream', fallback: 'NO_ADDON' }],
    [
      'without addons, and no file outside the app',
      [],
      { backend: 'stream', fallback: 'NO_ADDON' },
    ],
  ];
  describe.each(addons)('%s', (_name, allowAddons, served) => {
    test('what may be read is served', async () => {
      const { file, wanted } = outside();
      const found = await runAllowed(file, [file], [...allowAddons, ...IMPORT]);
      expect(found.told).toMatchObject(everywhere({ ...wanted, ...served }));
    });

    test('what may not is refused, as without register', async () => {
      const { file } = outside();
      const { told } = await runAllowed(file, [], [...allowAddons, ...IMPORT]);
      expect(told).toEqual(everywhere({ status: 500, text: 'ERR_ACCESS_DENIED' }));
      expect(told).toEqual((await runAllowed(file, [], allowAddons)).told);
    });
  });
});
