import * as fs from 'node:fs';
import * as path from 'node:path';
import { describe, expect, onTestFinished, test } from 'vitest';
import * as zerocopy from 'zerocopy';
import { pattern, scratchFolder } from './helpers/files';
import { openDescriptors, sleep } from './helpers/process';
import { fdOf, link, receive, receiveBytes } from './helpers/sockets';

const { constants } = zerocopy;

/** Both forms of each call, the one that blocks as a promise too. */
const forms = {
  promise: zerocopy,
  sync: {
    sendfile: async (...args: Parameters<typeof zerocopy.sendfileSync>) =>
      zerocopy.sendfileSync(...args),
    splice: async (...args: Parameters<typeof zerocopy.spliceSync>) => zerocopy.spliceSync(...args),
    copyFileRange: async (...args: Parameters<typeof zerocopy.copyFileRangeSync>) =>
      zerocopy.copyFileRangeSync(...args),
    pipe: async () => zerocopy.pipeSync(),
  },
};

function openFile(content: Buffer | string): number {
  const file = path.join(scratchFolder(), 'f');
  fs.writeFileSync(file, content);
  return track(fs.openSync(file, 'r+'));
}

function track(fd: number): number {
  onTestFinished(() => fs.closeSync(fd));
  return fd;
}

describe.each(Object.entries(forms))('%s', (_name, { sendfile, splice, copyFileRange, pipe }) => {
  test('sendfile from an offset, and from the position', async () => {
    const content = pattern(10_000);
    const inFd = openFile(content);
    const { sink, peer } = await link();
    const fd = fdOf(sink);
    expect(await sendfile(fd, inFd, 1000, 500)).toBe(500);
    expect(await sendfile(fd, inFd, null, 300)).toBe(300);
    expect(await sendfile(fd, inFd, null, 200)).toBe(200);
    expect(await sendfile(fd, inFd, 9_990, 200)).toBe(10);
    expect(await sendfile(fd, inFd, 10_000, 200)).toBe(0);
    expect(await sendfile(fd, inFd, 0, 0)).toBe(0);
    sink.end();
    const wanted = [content.subarray(1000, 1500), content.subarray(0, 500), content.subarray(9990)];
    expect((await receive(peer)).equals(Buffer.concat(wanted))).toBe(true);
  });

  test('sendfile to a full socket: EAGAIN', async () => {
    const inFd = openFile(pattern(1_000_000));
    const { sink } = await link({ kind: 'unix', buffers: 4096 });
    const descriptors = openDescriptors();
    const error = await (async () => {
      for (;;) await sendfile(fdOf(sink), inFd, 0, 1_000_000);
    })().catch((error) => error);
    expect(error).toMatchObject({ code: 'EAGAIN', errno: -11, syscall: 'sendfile' });
    expect(openDescriptors()).toBe(descriptors);
  });

  test('splice through a pipe', async () => {
    const content = pattern(3000);
    const inFd = openFile(content);
    const outFd = openFile('');
    const { readFd, writeFd } = await pipe();
    track(readFd);
    track(writeFd);
    expect(await splice(inFd, 100, writeFd, null, 2000)).toBe(2000);
    expect(await splice(readFd, null, outFd, 50, 5000, constants.SPLICE_F_MOVE)).toBe(2000);
    const flags = constants.SPLICE_F_NONBLOCK | constants.SPLICE_F_MORE;
    await expect(splice(readFd, null, outFd, 0, 5000, flags)).rejects.toMatchObject({
      code: 'EAGAIN',
      syscall: 'splice',
    });
    const written = Buffer.alloc(3000);
    expect(fs.readSync(outFd, written, 0, 3000, 0)).toBe(2050);
    expect(written.subarray(50, 2050).equals(content.subarray(100, 2100))).toBe(true);
  });

  test('splice from a socket', async () => {
    const { sink, peer } = await link();
    const { readFd, writeFd } = await pipe();
    track(readFd);
    track(writeFd);
    peer.write('hello');
    sink.pause();
    await sleep(20);
    expect(await splice(fdOf(sink), null, writeFd, null, 100).catch(({ code }) => code)).toBe(
      'EAGAIN', // what came has been read by libuv already
    );
  });

  test('copyFileRange at offsets and positions', async () => {
    const content = pattern(3000);
    const inFd = openFile(content);
    const outFd = openFile('');
    expect(await copyFileRange(inFd, 1000, outFd, 10, 500)).toBe(500);
    expect(await copyFileRange(inFd, null, outFd, null, 10)).toBe(10);
    expect(await copyFileRange(inFd, 3000, outFd, 0, 10)).toBe(0);
    const written = Buffer.alloc(600);
    expect(fs.readSync(outFd, written, 0, 600, 0)).toBe(510);
    const wanted = Buffer.concat([content.subarray(0, 10), content.subarray(1000, 1500)]);
    expect(written.subarray(0, 510).equals(wanted)).toBe(true);
  });

  test('system errors', async () => {
    const fd = openFile('x');
    const closed = fs.openSync('/dev/null', 'r');
    fs.closeSync(closed);
    await expect(sendfile(fd, closed, 0, 1)).rejects.toMatchObject({ code: 'EBADF' });
    await expect(splice(fd, 0, fd, 0, 1)).rejects.toMatchObject({ code: 'EINVAL' });
    await expect(copyFileRange(fd, 0, fd, 0, 1)).rejects.toMatchObject({ code: 'EINVAL' });
  });

  test.each([
    ['a descriptor that is a string', ['3', 3, 0, 1], 'ERR_INVALID_ARG_TYPE'],
    ['a negative descriptor', [-1, 3, 0, 1], 'ERR_OUT_OF_RANGE'],
    ['a fractional descriptor', [3, 0.5, 0, 1], 'ERR_OUT_OF_RANGE'],
    ['a huge descriptor', [3, 2 ** 31, 0, 1], 'ERR_OUT_OF_RANGE'],
    ['an offset that is missing', [3, 3, undefined, 1], 'ERR_INVALID_ARG_TYPE'],
    ['a negative offset', [3, 3, -1, 1], 'ERR_OUT_OF_RANGE'],
    ['an offset that is NaN', [3, 3, Number.NaN, 1], 'ERR_OUT_OF_RANGE'],
    ['a count that is missing', [3, 3, 0], 'ERR_INVALID_ARG_TYPE'],
    ['a negative count', [3, 3, 0, -1], 'ERR_OUT_OF_RANGE'],
    ['a huge count', [3, 3, 0, 2 ** 53], 'ERR_OUT_OF_RANGE'],
  ])('bad arguments: %s', async (_what, args, code) => {
    const call = sendfile as (...args: unknown[]) => Promise<number>;
    await expect(call(...args)).rejects.toMatchObject({ code });
  });

  test('unknown flags', async () => {
    for (const flags of [8, -1, 1.5, 2 ** 40]) {
      const error = await splice(3, null, 4, null, 1, flags).catch((error) => error);
      expect(['ERR_INVALID_ARG_VALUE', 'ERR_OUT_OF_RANGE']).toContain(error.code);
    }
  });

  test('a count beyond what one call moves', async () => {
    const inFd = openFile('x');
    const { sink, peer } = await link();
    expect(await sendfile(fdOf(sink), inFd, 0, Number.MAX_SAFE_INTEGER)).toBe(1);
    expect((await receiveBytes(peer, 1)).toString()).toBe('x');
  });
});

test('a call that blocks blocks a thread of its own, and no other call', async () => {
  const { readFd, writeFd } = zerocopy.pipeSync();
  track(readFd);
  const outFd = openFile('');
  const blocked = zerocopy.splice(readFd, null, outFd, 0, 10);
  const inFd = openFile('abc');
  // To another file: overlayfs has the one locked until its splice is over.
  expect(await zerocopy.copyFileRange(inFd, 0, openFile(''), 100, 3)).toBe(3);
  fs.writeSync(writeFd, 'now');
  fs.closeSync(writeFd);
  expect(await blocked).toBe(3);
});

test('a descriptor that is closed, and used anew, right after the call', async () => {
  const { readFd, writeFd } = zerocopy.pipeSync();
  const outFd = openFile('');
  const other = openFile('wrong');
  const blocked = zerocopy.splice(readFd, null, outFd, 0, 10);
  fs.closeSync(readFd);
  fs.writeSync(writeFd, 'right');
  expect(await blocked).toBe(5);
  expect(fs.readSync(outFd, Buffer.alloc(9), 0, 9, 0)).toBe(5);
  fs.closeSync(writeFd);
  expect(other).toBeGreaterThan(0);
});

test('capabilities', () => {
  expect(zerocopy.capabilities()).toEqual({
    native: true,
    sendfile: true,
    splice: true,
    copyFileRange: true,
    kernel: expect.stringMatching(/^\d+\.\d+/),
    movers: expect.any(Number),
  });
  expect(zerocopy.capabilities().movers).toBeGreaterThanOrEqual(2);
});
