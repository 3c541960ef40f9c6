// With and without the addon.
import * as fs from 'node:fs';
import * as os from 'node:os';
import * as path from 'node:path';
import { describe, expect, test } from 'vitest';
import { binary as addon, compiledBinary, copyOfPackage } from './helpers/binary';
import { scratchFolder, testFile } from './helpers/files';
import { runNode } from './helpers/process';

type Options = Parameters<typeof runNode>[2];

async function load(options: Options = {}, file = testFile(100_000).path) {
  const { code, stdout, stderr } = await runNode('load.mjs', [file], options);
  return { code, stderr, report: code === 0 ? JSON.parse(stdout) : undefined };
}

test('with the addon', async () => {
  const { report } = await load();
  const call = { code: 'ESPIPE', errno: -os.constants.errno.ESPIPE, syscall: 'sendfile' };
  expect(report).toMatchObject({ backend: 'sendfile', right: true, mapped: true, call });
  expect(report.capabilities).toMatchObject({ native: true });
  expect(report.capabilities.reason).toBeUndefined();
});

describe('without it all goes by streams, and says why', () => {
  const absent = { native: false, sendfile: false, splice: false, copyFileRange: false, movers: 0 };
  const cases: [string, Options, string, RegExp][] = [
    ['ZEROCOPY_BACKEND=stream', { env: { ZEROCOPY_BACKEND: 'stream' } }, 'DISABLED', /BACKEND/],
    ['--no-addons', { execArgv: ['--no-addons'] }, 'NO_ADDON', /--no-addons/],
    ['no binary', { env: { LIBRARY: '', ...compiledBinary } }, 'NO_ADDON', /no binary for linux/],
  ];
  test.each(cases)('%s', async (_name, options, code, reason) => {
    const env = { ...options?.env };
    if ('LIBRARY' in env) env.LIBRARY = path.join(copyOfPackage(), 'dist/index.js');
    const { report, stderr } = await load({ ...options, env });
    expect(stderr).toBe('');
    expect(report.capabilities).toMatchObject({ ...absent, reason: expect.stringMatching(reason) });
    expect(report).toMatchObject({
      backend: 'stream',
      fallback: { code, at: 0 },
      right: true,
      mapped: false,
      call: { code: 'ENOSYS', errno: -os.constants.errno.ENOSYS, syscall: 'sendfile' },
    });
  });

  test('a platform that is not Linux', async () => {
    const faked = path.join(scratchFolder(), 'darwin.cjs');
    fs.writeFileSync(faked, "Object.defineProperty(process, 'platform', { value: 'darwin' });");
    const { report } = await load({ execArgv: ['--require', faked] });
    expect(report).toMatchObject({
      backend: 'stream',
      fallback: { code: 'NO_ADDON' },
      right: true,
    });
    expect(report.capabilities.reason).toBe('not on darwin');
  });

  test('a descriptor that is closed, and used anew, right after the call', async () => {
    const { code, stdout, stderr } = await runNode(
      'closed-descriptor.mjs',
      [testFile(300_000).path, testFile(400_000).path],
      { env: { ZEROCOPY_BACKEND: 'stream' } },
    );
    expect({ code, stdout, stderr }).toEqual({ code: 0, stdout: 'right\n', stderr: '' });
  });
});

/** The binary, with another e_machine in its ELF header. */
function ofAnotherProcessor(): Buffer {
  const binary = fs.readFileSync(addon);
  binary.writeUInt16LE(0xfff0, 18);
  return binary;
}

describe('a binary that is there but broken is an error', () => {
  test.each([
    ['not a library', Buffer.from('not a library')],
    ['of another processor', ofAnotherProcessor()],
  ])('%s', async (_name, binary) => {
    const LIBRARY = path.join(copyOfPackage(binary), 'dist/index.js');
    const { code, stderr } = await load({ env: { LIBRARY, ...compiledBinary } });
    expect(code).toBe(1);
    expect(stderr).toContain('ERR_DLOPEN_FAILED');
    // ... unless the addon is not wanted.
    const { report } = await load({ env: { LIBRARY, ZEROCOPY_BACKEND: 'stream' } });
    expect(report).toMatchObject({ backend: 'stream', right: true });
  });
});

test.each([
  ['ZEROCOPY_BACKEND', 'sendfile', 'ERR_INVALID_ARG_VALUE'],
  ['ZEROCOPY_THREADS', '0', 'ERR_OUT_OF_RANGE'],
  ['ZEROCOPY_THREADS', 'two', 'ERR_OUT_OF_RANGE'],
  ['ZEROCOPY_THREADS', '65', 'ERR_OUT_OF_RANGE'],
])('%s=%s is refused', async (name, value, error) => {
  const { code, stderr } = await load({ env: { [name]: value } });
  expect(code).toBe(1);
  expect(stderr).toContain(error);
});

test('ZEROCOPY_THREADS', async () => {
  const { report } = await load({ env: { ZEROCOPY_THREADS: '3' } });
  expect(report.capabilities.movers).toBe(3);
});

describe("under Node's permission model only Node's fs opens", () => {
  const flag = process.allowedNodeEnvironmentFlags.has('--permission')
    ? '--permission'
    : '--experimental-permission';
  // Since Node 25 it is the network too.
  const network = process.allowedNodeEnvironmentFlags.has('--allow-net') ? ['--allow-net'] : [];
  const allow = (folder: string) => `--allow-fs-read=${folder}`;

  test('what may be read is sent', async () => {
    const file = testFile(100_000).path;
    const execArgv = [flag, '--allow-addons', ...network, allow('*')];
    const { report } = await load({ execArgv }, file);
    expect(report).toMatchObject({ backend: 'sendfile', right: true });
  });

  test('what may not is refused', async () => {
    const file = testFile(100_000).path;
    const execArgv = [flag, '--allow-addons', ...network, '--allow-fs-read=/proc/self/maps'];
    const addons = ['prebuilds', path.dirname(addon)];
    for (const name of ['dist', 'node_modules', 'test/programs', 'package.json', ...addons]) {
      execArgv.push(allow(path.resolve(name)));
    }
    const { report } = await load({ execArgv }, file);
    expect(report).toMatchObject({ code: 'ERR_ACCESS_DENIED' });
  });
});

test('NODE_DEBUG=zerocopy says which way each transfer went', async () => {
  const file = testFile(100_000).path;
  const native = await load({ env: { NODE_DEBUG: 'zerocopy' } }, file);
  expect(native.stderr).toMatch(`${file} -> Socket: 100000 bytes by sendfile`);
  const { stderr } = await load({ env: { NODE_DEBUG: 'zerocopy', ZEROCOPY_BACKEND: 'stream' } });
  expect(stderr).toMatch(/by stream \(DISABLED at 0: ZEROCOPY_BACKEND=stream\)/);
});

test('CommonJS and ES modules import the same names', async () => {
  const names = Object.keys(await import('zerocopy')).filter(
    (name) => name !== 'default' && name !== 'module.exports',
  );
  expect(names.sort()).toEqual([
    'RelayError',
    'TransferError',
    'capabilities',
    'constants',
    'copyFile',
    'copyFileRange',
    'copyFileRangeSync',
    'createReadStream',
    'pipe',
    'pipeSync',
    'relay',
    'sendfile',
    'sendfileSync',
    'splice',
    'spliceSync',
    'stats',
    'transfer',
  ]);
  const program = path.join(scratchFolder(), 'names.mjs');
  fs.writeFileSync(
    program,
    `import { ${names.join(', ')} } from ${JSON.stringify(path.resolve('dist/index.js'))};
     console.log(${names.join(' && ')} && 'all');`,
  );
  const { stdout, stderr } = await runNode(program);
  expect(stderr).toBe('');
  expect(stdout).toBe('all\n');
});
