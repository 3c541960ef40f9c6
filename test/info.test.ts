// `npx zerocopy info`, in processes of its own.
import { execFile } from 'node:child_process';
import * as fs from 'node:fs';
import * as os from 'node:os';
import * as path from 'node:path';
import { describe, expect, test } from 'vitest';
import { capabilities } from 'zerocopy';
import { binary, compiledBinary, copyOfPackage } from './helpers/binary';
import { scratchFolder } from './helpers/files';

interface RunOptions {
  env?: NodeJS.ProcessEnv;
  execArgv?: string[];
  folder?: string;
}

function run(args: string[], { env = {}, execArgv = [], folder = '.' }: RunOptions = {}) {
  const { ZEROCOPY_BACKEND, ZEROCOPY_THREADS, NODE_DEBUG, ...rest } = process.env;
  const command = [...execArgv, path.join(folder, 'dist/cli.js'), ...args];
  return new Promise<{ code: number | string; stdout: string; stderr: string }>((resolve) => {
    execFile(process.execPath, command, { env: { ...rest, ...env } }, (error, stdout, stderr) => {
      resolve({ code: error ? (error.code ?? 'a signal') : 0, stdout, stderr });
    });
  });
}

async function infoOf(options?: RunOptions) {
  const { code, stdout, stderr } = await run(['info', '--json'], options);
  expect(stderr).toBe('');
  return { code, info: JSON.parse(stdout) };
}

const yes = { available: true };
const { version } = JSON.parse(fs.readFileSync('package.json', 'utf8'));
const BYTES = 1024 * 1024;

describe('where native code works', () => {
  test('--json', async () => {
    const { code, info } = await infoOf({ env: { ZEROCOPY_THREADS: '3' } });
    expect(code).toBe(0);
    expect(info).toEqual({
      native: true,
      version,
      node: process.version,
      platform: 'linux',
      arch: process.arch,
      libc: expect.stringMatching(/^(glibc \d+\.\d+|musl)$/),
      kernel: os.release(),
      addon: {
        origin: binary.includes('/prebuilds/') ? 'prebuilt' : 'compiled',
        file: binary,
      },
      capabilities: { sendfile: yes, splice: yes, copyFileRange: yes },
      movers: 3,
      environment: { ZEROCOPY_THREADS: '3' },
      trials: [
        { name: 'file to socket', works: true, transferred: BYTES, backend: 'sendfile' },
        { name: 'file to file', works: true, transferred: BYTES, backend: 'copy_file_range' },
      ],
    });
  });

  test('as text', async () => {
    const { code, stdout, stderr } = await run(['info']);
    expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
    const lines = stdout.split('\n');
    const { movers } = capabilities();
    for (const line of [
      `zerocopy          ${version}`,
      `kernel            ${os.release()}`,
      'sendfile          yes',
      'splice            yes',
      'copy_file_range   yes',
      `movers            ${movers}`,
      'ZEROCOPY_BACKEND  not set',
      `file to socket    ${BYTES} bytes by sendfile`,
      `file to file      ${BYTES} bytes by copy_file_range`,
      'Bytes go through the kernel.',
    ]) {
      expect(lines).toContain(line);
    }
  });

  test('a prebuilt binary is told from one that was compiled', async () => {
    const folder = copyOfPackage();
    const prebuilds = path.join(folder, `prebuilds/linux-${process.arch}`);
    fs.mkdirSync(prebuilds, { recursive: true });
    fs.copyFileSync(binary, path.join(prebuilds, 'zerocopy.node'));
    const { code, info } = await infoOf({ folder, env: compiledBinary });
    expect(code).toBe(0);
    expect(info.addon).toEqual({
      origin: 'prebuilt',
      file: path.join(prebuilds, 'zerocopy.node'),
    });
  });

  test('it leaves nothing in the temporary folder', async () => {
    const folder = scratchFolder();
    const { code } = await infoOf({ env: { TMPDIR: folder } });
    expect(code).toBe(0);
    expect(fs.readdirSync(folder)).toEqual([]);
  });
});

describe('where all goes by streams', () => {
  const cases: [string, string, string, () => RunOptions][] = [
    [
      'ZEROCOPY_BACKEND=stream',
      'DISABLED',
      'ZEROCOPY_BACKEND=stream',
      () => ({ env: { ZEROCOPY_BACKEND: 'stream' } }),
    ],
    [
      'no binary',
      'NO_ADDON',
      `no binary for linux-${process.arch} was found or built`,
      () => ({ folder: copyOfPackage(), env: compiledBinary }),
    ],
    [
      '--no-addons',
      'NO_ADDON',
      'loading addons is disabled (--no-addons or --permission)',
      () => ({ execArgv: ['--no-addons'] }),
    ],
  ];
  test.each(cases)('%s', async (_name, code, reason, options) => {
    const told = await infoOf(options());
    const no = { available: false, reason };
    const byStream = {
      works: true,
      transferred: BYTES,
      backend: 'stream',
      fallback: { code, message: reason, at: 0 },
    };
    expect(told.code).toBe(1);
    expect(told.info).toMatchObject({
      native: false,
      addon: { origin: 'none', reason },
      capabilities: { sendfile: no, splice: no, copyFileRange: no },
      movers: 0,
      trials: [
        { name: 'file to socket', ...byStream },
        { name: 'file to file', ...byStream },
      ],
    });
    const { code: exitCode, stdout } = await run(['info'], options());
    expect(exitCode).toBe(1);
    expect(stdout).toContain(`addon             none: ${reason}\n`);
    expect(stdout).toContain(`sendfile          no: ${reason}\n`);
    expect(stdout).toContain(`${BYTES} bytes by stream (${code}: ${reason})\n`);
    expect(stdout).toMatch(/^It works through streams only\.$/m);
  });

  test('a variable that is set is shown', async () => {
    const env = { ZEROCOPY_BACKEND: 'stream', NODE_DEBUG: 'nothing' };
    const { info } = await infoOf({ env });
    expect(info.environment).toEqual(env);
  });
});

describe('where nothing works', () => {
  test('a binary that is broken', async () => {
    const folder = copyOfPackage(Buffer.from('no binary'));
    const { code, stdout, stderr } = await run(['info'], { folder, env: compiledBinary });
    expect({ code, stdout }).toEqual({ code: 1, stdout: '' });
    expect(stderr).toMatch(/^zerocopy: .*zerocopy\.node/);
  });

  test('a variable with a value that it does not take', async () => {
    const { code, stderr } = await run(['info'], { env: { ZEROCOPY_BACKEND: 'fast' } });
    expect({ code, stderr }).toEqual({
      code: 1,
      stderr: "zerocopy: ZEROCOPY_BACKEND must be 'auto' or 'stream'. Received 'fast'\n",
    });
  });

  test('no connection over loopback', async () => {
    const refusing = path.join(scratchFolder(), 'refusing.cjs');
    fs.writeFileSync(
      refusing,
      `const net = require('node:net');
       const { connect } = net;
       net.connect = (port, host) => connect(1, host);`,
    );
    const { code, info } = await infoOf({ execArgv: ['--require', refusing] });
    expect(code).toBe(1);
    expect(info.trials[0]).toEqual({
      name: 'file to socket',
      works: false,
      error: 'connect ECONNREFUSED 127.0.0.1:1',
    });
  });

  test('no temporary folder', async () => {
    const TMPDIR = path.join(scratchFolder(), 'missing');
    const { code, stderr } = await run(['info', '--json'], { env: { TMPDIR } });
    expect(code).toBe(1);
    expect(stderr).toMatch(/^zerocopy: ENOENT/);
  });
});

describe('its use', () => {
  test.each([
    [[], 'a command is missing'],
    [['inform'], "unknown command 'inform'"],
    [['info', 'more'], "unexpected argument 'more'"],
    [['info', '--yaml'], "Unknown option '--yaml'"],
    [['info', '--json=yes'], "Option '--json' does not take an argument"],
  ])('%j is refused', async (args, message) => {
    const { code, stdout, stderr } = await run(args);
    expect({ code, stdout }).toEqual({ code: 2, stdout: '' });
    expect(stderr).toContain(`zerocopy: ${message}`);
    expect(stderr).toContain("Try 'zerocopy --help'.");
  });

  test('--help explains all exit codes', async () => {
    const { code, stdout } = await run(['--help']);
    expect(code).toBe(0);
    expect(stdout).toMatch(/^Usage: zerocopy info \[--json\]$/m);
    for (const exitCode of [0, 1, 2])
      expect(stdout).toMatch(new RegExp(`^  ${exitCode}  \\S`, 'm'));
    expect(stdout).toBe((await run(['info', '-h'])).stdout);
  });

  test('--version', async () => {
    expect(await run(['--version'])).toEqual({ code: 0, stdout: `${version}\n`, stderr: '' });
  });

  test('the package has it as its command', () => {
    const { bin } = JSON.parse(fs.readFileSync('package.json', 'utf8'));
    expect(bin).toEqual({ zerocopy: './dist/cli.js' });
    expect(fs.readFileSync(bin.zerocopy, 'utf8')).toMatch(/^#!\/usr\/bin\/env node\n/);
  });
});
