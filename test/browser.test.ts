/// <reference lib="dom" />
/// <reference lib="dom.iterable" />
// Chromium loads a page, and a video that it seeks in, from an unmodified express under register.
import * as fs from 'node:fs';
import * as path from 'node:path';
import type { Browser, BrowserContext, Response } from 'playwright-core';
import { afterAll, afterEach, beforeAll, beforeEach, expect, test } from 'vitest';
import { launchChromium } from './helpers/chromium';
import { pattern, sha256 } from './helpers/files';
import { until } from './helpers/process';
import { makeSite, type Server, type Site, startServer } from './helpers/servers';

/** A picture of noise, without compression: 24 bits a pixel. */
function bitmap(width: number, height: number): Buffer {
  const row = Math.ceil((width * 3) / 4) * 4;
  const head = Buffer.alloc(54);
  head.write('BM');
  head.writeUInt32LE(54 + row * height, 2);
  head.writeUInt32LE(54, 10);
  head.writeUInt32LE(40, 14);
  head.writeInt32LE(width, 18);
  head.writeInt32LE(height, 22);
  head.writeUInt16LE(1, 26);
  head.writeUInt16LE(24, 28);
  head.writeUInt32LE(row * height, 34);
  return Buffer.concat([head, pattern(row * height, width)]);
}

const bitmaps: Record<string, [number, number]> = {
  'dot.bmp': [1, 1],
  'icon.bmp': [64, 64],
  'wide.bmp': [1000, 30],
  'large.bmp': [1024, 1024],
};
const text = pattern(300_000).toString('base64');
const files: Record<string, Buffer> = {
  'page.html': Buffer.from(`<!doctype html><title>page</title><link rel="icon" href="data:,">
    <link rel="stylesheet" href="style.css"><script defer src="script.js"></script>
    ${Object.keys(bitmaps).map((name) => `<img src="${name}">`)}`),
  'blank.html': Buffer.from('<!doctype html><link rel="icon" href="data:,">'),
  'style.css': Buffer.from(`/* ${text} */ body { color: rgb(1, 2, 3); }`),
  'script.js': Buffer.from(`globalThis.text = '${text}';`),
};
for (const [name, [width, height]] of Object.entries(bitmaps)) files[name] = bitmap(width, height);

let site: Site;
let server: Server;
let browser: Browser;
let context: BrowserContext;
let video: Buffer;

beforeAll(() => {
  site = makeSite();
  for (const [name, content] of Object.entries(files)) {
    fs.writeFileSync(path.join(site.root, name), content);
  }
  return site.remove;
});
beforeAll(async () => {
  server = await startServer('express.mjs', [site.root]);
  return server.stop;
});
beforeAll(async () => {
  browser = await launchChromium();
});
afterAll(() => browser?.close());
beforeAll(async () => {
  video = await record();
  fs.writeFileSync(path.join(site.root, 'video.webm'), video);
});

beforeEach(async () => {
  context = await browser.newContext();
});
afterEach(() => context.close());

/** Three seconds of noise, which doesn't shrink, below a bar: red, green, blue, a second each. */
async function record(): Promise<Buffer> {
  const page = await browser.newPage();
  const base64 = await page.evaluate(async () => {
    const canvas = document.createElement('canvas');
    [canvas.width, canvas.height] = [320, 240];
    const drawing = canvas.getContext('2d') as CanvasRenderingContext2D;
    const options = { mimeType: 'video/webm;codecs=vp8', videoBitsPerSecond: 20e6 };
    const recorder = new MediaRecorder(canvas.captureStream(30), {
      ...options,
      videoKeyFrameIntervalDuration: 500,
    } as MediaRecorderOptions);
    const parts: Blob[] = [];
    recorder.ondataavailable = ({ data }) => parts.push(data);
    const stopped = new Promise((resolve) => {
      recorder.onstop = resolve;
    });
    recorder.start();
    const begin = performance.now();
    for (let seconds = 0; seconds < 3; seconds = (performance.now() - begin) / 1000) {
      const noise = drawing.createImageData(320, 240);
      for (let i = 0; i < noise.data.length; i++) noise.data[i] = Math.random() * 256;
      drawing.putImageData(noise, 0, 0);
      drawing.fillStyle = ['red', 'lime', 'blue'][Math.floor(seconds)] as string;
      drawing.fillRect(0, 0, 320, 120);
      await new Promise((resolve) => requestAnimationFrame(resolve));
    }
    recorder.stop();
    await stopped;
    const reader = new FileReader();
    const read = new Promise((resolve) => {
      reader.onload = resolve;
    });
    reader.readAsDataURL(new Blob(parts));
    await read;
    return (reader.result as string).replace(/.*,/, '');
  });
  await page.close();
  return Buffer.from(base64, 'base64');
}

/** Of what the server has read since the last call: the bytes, all of which went natively. */
async function bytesSentNatively(): Promise<number[]> {
  const streams = (await server.streams()).filter(({ bytesRead }) => bytesRead > 0);
  for (const stream of streams) {
    expect(stream.fallback).toBeUndefined();
    expect(['read', 'sendfile']).toContain(stream.backend);
  }
  return streams.map(({ bytesRead }) => bytesRead).sort((a, b) => a - b);
}

const nameOf = (response: Response) => path.basename(new URL(response.url()).pathname);

test('a page with pictures, a style and a script', async () => {
  const page = await context.newPage();
  const responses: Response[] = [];
  page.on('response', (response) => {
    if (response.url().startsWith(server.origin)) responses.push(response);
  });
  await page.goto(`${server.origin}/page.html`, { waitUntil: 'load' });

  const got: Record<string, [number, string]> = {};
  for (const response of responses) {
    got[nameOf(response)] = [response.status(), sha256(await response.body())];
  }
  const { 'blank.html': _, ...wanted } = files;
  expect(responses).toHaveLength(Object.keys(wanted).length);
  expect(got).toEqual(
    Object.fromEntries(Object.entries(wanted).map(([name, bytes]) => [name, [200, sha256(bytes)]])),
  );
  expect(await bytesSentNatively()).toEqual(
    Object.values(wanted)
      .map((bytes) => bytes.length)
      .sort((a, b) => a - b),
  );

  // And it could make use of them.
  const used = await page.evaluate(() => ({
    text: (globalThis as unknown as { text: string }).text,
    color: getComputedStyle(document.body).color,
    pictures: [...document.images].map(({ naturalWidth, naturalHeight }) => [
      naturalWidth,
      naturalHeight,
    ]),
  }));
  expect(used).toEqual({ text, color: 'rgb(1, 2, 3)', pictures: Object.values(bitmaps) });

  // It has them now, and is told that they are what they were.
  await page.reload({ waitUntil: 'load' });
  expect(await page.evaluate(() => document.images.length)).toBe(Object.keys(bitmaps).length);
  expect(await bytesSentNatively()).toEqual([]);
});

test('a video that is sought in', async () => {
  const page = await context.newPage();
  await page.goto(`${server.origin}/blank.html`);
  await bytesSentNatively();

  // What it got of each answer, and of those that it broke off too.
  const answers = new Map<string, { range: string; status: number; bytes: Buffer[] }>();
  const brokenOff = new Set<string>();
  const begun: Promise<unknown>[] = [];
  const devtools = await context.newCDPSession(page);
  devtools.on('Network.loadingFailed', ({ requestId, canceled }) => {
    if (canceled) brokenOff.add(requestId);
  });
  devtools.on('Network.responseReceived', ({ requestId, response: { status, headers } }) => {
    const bytes: Buffer[] = [];
    answers.set(requestId, { range: headers['Content-Range'] ?? '', status, bytes });
    const soFar = devtools
      .send('Network.streamResourceContent', { requestId })
      .then(({ bufferedData }) => bufferedData)
      // Its end has come already.
      .catch(async () =>
        brokenOff.has(requestId)
          ? ''
          : (await devtools.send('Network.getResponseBody', { requestId })).body,
      );
    begun.push(soFar.then((base64) => bytes.unshift(Buffer.from(base64, 'base64'))));
  });
  devtools.on('Network.dataReceived', ({ requestId, data }) => {
    if (data) answers.get(requestId)?.bytes.push(Buffer.from(data, 'base64'));
  });
  await devtools.send('Network.enable');

  const seen = await page.evaluate(async () => {
    const video = document.createElement('video');
    video.preload = 'metadata';
    video.muted = true;
    document.body.append(video);
    const next = (event: string) =>
      new Promise((resolve, reject) => {
        video.addEventListener(event, resolve, { once: true });
        video.onerror = () => reject(new Error(video.error?.message));
      });
    const loaded = next('loadeddata');
    video.src = 'video.webm';
    await loaded;
    const canvas = document.createElement('canvas');
    const drawing = canvas.getContext('2d') as CanvasRenderingContext2D;
    const seen: string[] = [];
    for (const seconds of [2.5, 0.5, 1.5, 2.6]) {
      const sought = next('seeked');
      video.currentTime = seconds;
      await sought;
      drawing.drawImage(video, 0, 0);
      const [red = 0, green = 0, blue = 0] = drawing.getImageData(100, 60, 1, 1).data;
      const color = [red, green, blue].map((value) => (value > 200 ? 1 : value < 55 ? 0 : '?'));
      seen.push(`${video.currentTime}: ${color}`);
    }
    video.removeAttribute('src');
    video.load();
    return seen;
  });
  expect(seen).toEqual(['2.5: 0,0,1', '0.5: 1,0,0', '1.5: 0,1,0', '2.6: 0,0,1']);

  await Promise.all(begun);
  const sent = await bytesSentNatively();
  expect(answers.size).toBeGreaterThan(1);
  expect(sent.length).toBeGreaterThanOrEqual(answers.size);
  const starts: number[] = [];
  let received = 0;
  for (const { range, status, bytes } of answers.values()) {
    expect(status).toBe(206);
    const [, start = ''] = range.match(/^bytes (\d+)-/) ?? [];
    expect(range).toBe(`bytes ${start}-${video.length - 1}/${video.length}`);
    const got = Buffer.concat(bytes);
    const at = Number(start);
    expect(sha256(got)).toBe(sha256(video.subarray(at, at + got.length)));
    starts.push(at);
    received += got.length;
  }
  expect(starts[0]).toBe(0);
  expect(Math.max(...starts)).toBeGreaterThan(video.length / 2);
  expect(received).toBeGreaterThan(100_000);
});

test('a video that is played to its end', async () => {
  const page = await context.newPage();
  await page.goto(`${server.origin}/blank.html`);
  await bytesSentNatively();
  const ended = await page.evaluate(async () => {
    const video = document.createElement('video');
    video.muted = true;
    video.playbackRate = 4;
    document.body.append(video);
    const ended = new Promise((resolve, reject) => {
      video.onended = () => resolve(true);
      video.onerror = () => reject(new Error(video.error?.message));
    });
    video.src = 'video.webm';
    await video.play();
    return await ended;
  });
  expect(ended).toBe(true);
  await page.close();
  const sent = await bytesSentNatively();
  expect(sent.reduce((sum, bytes) => sum + bytes, 0)).toBeGreaterThanOrEqual(video.length);
});

test('ranges that a script fetches', async () => {
  const page = await context.newPage();
  await page.goto(`${server.origin}/blank.html`);
  await bytesSentNatively();
  const ranges = ['bytes=0-0', 'bytes=10-99', 'bytes=-100', 'bytes=1000000-3000000'];
  const got = await page.evaluate(async (ranges) => {
    return await Promise.all(
      ranges.map(async (range) => {
        const response = await fetch('large.bmp', { headers: { range }, cache: 'no-store' });
        const digest = await crypto.subtle.digest('SHA-256', await response.arrayBuffer());
        const hex = [...new Uint8Array(digest)].map((byte) => byte.toString(16).padStart(2, '0'));
        return [response.status, hex.join('')];
      }),
    );
  }, ranges);
  const bytes = files['large.bmp'] as Buffer;
  const parts = [
    bytes.subarray(0, 1),
    bytes.subarray(10, 100),
    bytes.subarray(-100),
    bytes.subarray(1_000_000, 3_000_001),
  ];
  expect(got).toEqual(parts.map((part) => [206, sha256(part)]));
  expect(await bytesSentNatively()).toEqual([1, 90, 100, 2_000_001]);
});

test('downloads', async () => {
  const page = await context.newPage();
  await page.goto(`${server.origin}/blank.html`);
  await bytesSentNatively();
  const names = [...site.files.keys()];
  for (const name of names) {
    const downloading = page.waitForEvent('download');
    await page.evaluate((name) => {
      const link = document.createElement('a');
      link.href = `/download/${name}`;
      link.click();
    }, name);
    const download = await downloading;
    expect(download.suggestedFilename()).toBe('as.bin');
    const saved = fs.readFileSync(await download.path());
    expect(sha256(saved)).toBe(sha256(site.files.get(name) as Buffer));
  }
  const sizes = [...site.files.values()].map(({ length }) => length).filter((size) => size > 0);
  expect(await bytesSentNatively()).toEqual(sizes);
});

test('a page that is left in the middle of a download leaves no descriptor behind', async () => {
  const descriptors = () => fs.readdirSync(`/proc/${server.pid}/fd`).length;
  const page = await context.newPage();
  await page.goto(`${server.origin}/blank.html`);
  await bytesSentNatively();
  const before = descriptors();
  const large = path.join(site.root, 'large.bin');
  fs.writeFileSync(large, pattern(64 * 1024 * 1024));
  const begun = await page.evaluate(async () => {
    const response = await fetch('large.bin');
    const chunk = await response.body?.getReader().read(); // and no more
    return [response.status, (chunk?.value?.length ?? 0) > 0];
  });
  expect(begun).toEqual([200, true]);
  await page.close();
  const [sent = 0] = await bytesSentNatively();
  expect(sent).toBeGreaterThan(0);
  expect(sent).toBeLessThan(64 * 1024 * 1024);
  await until(() => descriptors() <= before, 'its connection is closed');
});
