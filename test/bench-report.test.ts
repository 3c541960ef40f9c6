/// <reference lib="dom" />
// The bench's report: one page that needs nothing but itself, and the README's charts.
import { spawnSync } from 'node:child_process';
import * as fs from 'node:fs';
import * as path from 'node:path';
import { pathToFileURL } from 'node:url';
import type { Browser } from 'playwright-core';
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { launchChromium } from './helpers/chromium';
import { scratchFolder } from './helpers/files';

const HOSTILE = `<script>document.title = 'run'</script> & "quoted"`;

const summary = (median: number) => {
  const values = [median * 0.9, median, median * 1.1];
  return { median, min: values[0], max: values[2], values };
};
const ways = (figure: string, medians: Record<string, number>) =>
  Object.fromEntries(
    Object.entries(medians).map(([way, median]) => [
      way,
      { backend: 'sendfile', figures: { [figure]: summary(median), jsThreadSeconds: summary(0) } },
    ]),
  );
const sweep = (points: (number | string)[], medians: Record<string, number>) =>
  Object.fromEntries(
    Object.entries(medians).map(([way, median]) => [
      way,
      points.map((x, index) => ({ x, ...summary(median * 4 ** index) })),
    ]),
  );

const largeFile = {
  name: 'large-file',
  title: 'one file',
  rounds: 3,
  ways: ways('cpuSeconds', { 'sendfile-c': 0.1, transfer: 0.11, pipe: 0.9, 'pipe-1m': 0.6 }),
  checks: [
    { what: 'CPU, to pipe()', ratio: 0.122, atMost: 0.2, met: true },
    { what: 'throughput, to C', ratio: 0.9, atLeast: 0.95, met: false },
  ],
  missing: [HOSTILE],
};
const http = {
  name: 'http-16k',
  title: 'GET of 16k',
  rounds: 3,
  ways: ways('requestsPerSecond', { zerocopy: 40_000, pipe: 12_000, nginx: 69_000, [HOSTILE]: 7 }),
  checks: [],
  missing: [],
};
const produce = {
  name: 'kafka-produce',
  title: 'batches',
  rounds: 1,
  ways: {},
  parts: [{ title: HOSTILE, ways: ways('seconds', { 'produce-splice': 1, 'produce-memory': 2 }) }],
  notes: [HOSTILE],
  checks: [],
  missing: [],
};
const fileSize = {
  name: 'file-size',
  title: 'GET of files',
  rounds: 3,
  ways: {},
  series: [
    {
      title: 'Requests by size',
      x: { label: 'file size', scale: 'log' },
      figure: 'requestsPerSecond',
      ways: sweep([1024, 4096, 16384], { zerocopy: 1000, pipe: 500, nginx: 1100 }),
    },
    {
      title: HOSTILE,
      x: { label: HOSTILE, scale: 'category' },
      figure: 'seconds',
      ways: sweep(['ext4', HOSTILE], { copy: 0.1, 'fs-copy': 0.4 }),
    },
    {
      title: 'Movers',
      x: { label: 'movers', scale: 'linear' },
      figure: 'megabytesPerSecond',
      ways: { transfer: [{ x: 1, ...summary(0) }], pipe: [] },
    },
  ],
  checks: [],
  missing: [],
};
const results = {
  machine: {
    cpu: 'A processor',
    cores: 2,
    kernel: 'Linux 6.18',
    node: 'v20.20.2',
    date: '2026-11-26T12:00:00.000Z',
    loadAverage: 0.5,
    commit: 'abcdef0',
    pinned: true,
    congestionControl: 'cubic',
    capabilities: { native: true },
  },
  command: 'npm run bench -- --json',
  quick: true,
  scenarios: [largeFile, http, produce, fileSize],
};

let directory: string;
let file: string;

beforeEach(() => {
  directory = scratchFolder();
  file = path.join(directory, 'results.json');
  fs.writeFileSync(file, JSON.stringify(results));
});

function report(...options: string[]) {
  const script = path.join(__dirname, '../bench/report.mjs');
  return spawnSync(process.execPath, [script, ...options], { encoding: 'utf8' });
}

function drawPage(): string {
  const html = path.join(directory, 'page.html');
  expect(report(file, '--html', html)).toMatchObject({ status: 0, stderr: '' });
  return fs.readFileSync(html, 'utf8');
}

function drawCharts(): Record<string, string> {
  const folder = path.join(directory, 'charts');
  expect(report(file, '--charts', folder)).toMatchObject({ status: 0, stderr: '' });
  const names = fs.readdirSync(folder);
  return Object.fromEntries(
    names.map((name) => [name, fs.readFileSync(path.join(folder, name), 'utf8')]),
  );
}

test('the page has every scenario, its tables, targets and what was missing', () => {
  const html = drawPage();
  for (const { name } of results.scenarios) expect(html).toContain(`<section id="${name}">`);
  for (const fact of ['A processor', 'Linux 6.18', 'v20.20.2', 'abcdef0', results.command]) {
    expect(html).toContain(fact);
  }
  expect(html).toContain('0.110 (0.099–0.121)');
  expect(html).toContain('✓ met');
  expect(html).toContain('✗ missed');
  expect(html).toContain('<h3>Missing</h3>');
});

test('the page refers to nothing outside of itself', () => {
  const html = drawPage();
  expect(html).not.toMatch(/(src|href|srcset|action)\s*=\s*["']?(https?:|\/|\.)/i);
  expect(html).not.toMatch(/@import|url\(|<script|<link(?! rel="icon" href="data:,")/i);
});

test('the same results give the same page and charts', () => {
  expect(drawPage()).toBe(drawPage());
  expect(drawCharts()).toEqual(drawCharts());
});

test('what npm and the compiler say before the results is passed over', () => {
  fs.writeFileSync(file, `\n> zerocopy@0.0.0 bench\n> {node}\n${JSON.stringify(results)}\n`);
  expect(drawPage()).toContain('large-file');
});

test('colours that are drawn have a dark one in their place', () => {
  for (const svg of Object.values(drawCharts())) {
    const style = svg.match(/<style>(.*)<\/style>/)?.[1] ?? '';
    const drawn = svg.replace(style, '').matchAll(/(?:fill|stroke)="([^"]*)"/g);
    for (const [attribute, colour] of drawn) {
      if (colour !== 'none') expect(style).toContain(`[${attribute}]`);
    }
  }
});

test('charts whose scenarios are not in the results are named, and the others drawn', () => {
  fs.writeFileSync(file, JSON.stringify({ ...results, scenarios: [largeFile, http] }));
  const folder = path.join(directory, 'charts');
  const { status, stderr } = report(file, '--charts', folder);
  expect(status).toBe(1);
  expect(stderr).toMatch(/sizes\.svg.*file-size/);
  expect(stderr).not.toContain('gain.svg');
  expect(fs.readdirSync(folder)).toEqual(['gain.svg']);
});

function bench(...options: string[]) {
  const script = path.join(__dirname, '../bench/run.mjs');
  return spawnSync(process.execPath, [script, '--scenario', 'accept-files', ...options], {
    encoding: 'utf8',
    env: { ...process.env, CC: '/none' }, // nothing is measured
  });
}

test("where it may the bench has a network of its own, with Reno; the machine's when asked to", () => {
  const machines = fs.readFileSync('/proc/sys/net/ipv4/tcp_congestion_control', 'utf8').trim();
  const mayHaveOwn = spawnSync('unshare', ['--net', 'true']).status === 0;
  const controlOf = (...options: string[]) =>
    JSON.parse(bench('--json', ...options).stdout).machine.congestionControl;
  expect(controlOf()).toBe(mayHaveOwn ? 'reno' : machines);
  expect(controlOf('--network-as-is')).toBe(machines);
  expect(bench('--scenario', 'nonsense')).toMatchObject({
    status: 1,
    stderr: expect.stringContaining("There is no scenario 'nonsense'"),
  });
});

test('the bench writes the page beside its text, or beside its results', () => {
  const html = path.join(directory, 'page.html');
  expect(bench('--html', html).stdout).toMatch(/missing: no C compiler/);
  const { command } = JSON.parse(bench('--html', html, '--json').stdout);
  expect(command).toMatch(/^npm run bench -- --scenario accept-files --html .* --json$/);
  expect(fs.readFileSync(html, 'utf8')).toContain(command);
});

test("the README's charts and tables are those of the committed results", () => {
  const root = path.join(__dirname, '..');
  const committed = path.join(root, 'bench/results.json');
  const { machine, command, quick } = JSON.parse(fs.readFileSync(committed, 'utf8'));
  expect(machine).toMatchObject({ pinned: true, commit: expect.stringMatching(/^[0-9a-f]{7,}$/) });
  expect({ command, quick }).toEqual({
    command: expect.stringMatching(/^npm run bench -- /),
    quick: false,
  });
  const charts = path.join(directory, 'charts');
  const readme = path.join(directory, 'README.md');
  fs.copyFileSync(path.join(root, 'README.md'), readme);
  expect(report(committed, '--charts', charts, '--tables', readme)).toMatchObject({
    status: 0,
    stderr: '',
  });
  const text = fs.readFileSync(readme, 'utf8');
  expect(text).toBe(fs.readFileSync(path.join(root, 'README.md'), 'utf8'));
  for (const name of fs.readdirSync(charts)) {
    const drawn = fs.readFileSync(path.join(charts, name), 'utf8');
    expect(drawn).toBe(fs.readFileSync(path.join(root, 'docs/charts', name), 'utf8'));
    expect(text).toContain(`docs/charts/${name}`);
  }
});

test('a text without marks is not written to', () => {
  const readme = path.join(directory, 'README.md');
  fs.writeFileSync(readme, 'No marks');
  const { status, stderr } = report(file, '--tables', readme);
  expect({ status, stderr }).toEqual({
    status: 1,
    stderr: expect.stringMatching(/^The text needs/),
  });
  expect(fs.readFileSync(readme, 'utf8')).toBe('No marks');
});

test('a file without results, and no file, are refused', () => {
  fs.writeFileSync(file, 'none');
  const html = path.join(directory, 'page.html');
  expect(report(file, '--html', html)).toMatchObject({ status: 1 });
  expect(report()).toMatchObject({ status: 1, stderr: expect.stringContaining('Usage') });
  expect(fs.existsSync(html)).toBe(false);
});

describe('in Chromium', () => {
  let browser: Browser;

  beforeAll(async () => {
    browser = await launchChromium();
  });
  afterAll(() => browser?.close());

  /** Shares of its colours, of a screenshot: the most frequent one's, and how many there are. */
  async function coloursOf(screenshot: Buffer) {
    const page = await browser.newPage();
    const found = await page.evaluate(async (base64) => {
      const image = new Image();
      image.src = `data:image/png;base64,${base64}`;
      await image.decode();
      const canvas = document.createElement('canvas');
      [canvas.width, canvas.height] = [image.width, image.height];
      const drawing = canvas.getContext('2d') as CanvasRenderingContext2D;
      drawing.drawImage(image, 0, 0);
      const { data } = drawing.getImageData(0, 0, image.width, image.height);
      const counts: Record<string, number> = {};
      const pixels = new Uint32Array(data.buffer);
      for (const pixel of pixels) {
        const colour = (pixel & 0xffffff).toString(16).padStart(6, '0');
        counts[colour] = (counts[colour] ?? 0) + 1;
      }
      const hex = (bgr: string) => `#${bgr.slice(4)}${bgr.slice(2, 4)}${bgr.slice(0, 2)}`;
      return Object.fromEntries(
        Object.entries(counts)
          .filter(([, count]) => count > 200)
          .map(([bgr, count]) => [hex(bgr), count / pixels.length]),
      );
    }, screenshot.toString('base64'));
    await page.close();
    return found;
  }

  test.each([
    { scheme: 'light' as const, width: 1200, ground: '#ffffff', accent: '#0b7a75' },
    { scheme: 'dark' as const, width: 400, ground: '#0d1117', accent: '#2dd4bf' },
  ])('the page at $width px, $scheme', async ({ scheme, width, ground, accent }) => {
    drawPage();
    const page = await browser.newPage({ viewport: { width, height: 900 }, colorScheme: scheme });
    const complaints: string[] = [];
    const requests: string[] = [];
    page.on('console', (message) => complaints.push(message.text()));
    page.on('pageerror', (error) => complaints.push(error.message));
    page.on('request', (request) => requests.push(request.url()));
    const url = pathToFileURL(path.join(directory, 'page.html')).href;
    await page.goto(url);
    const colours = await coloursOf(await page.screenshot({ fullPage: true }));
    const seen = await page.evaluate(() => ({
      title: document.title,
      scripts: document.scripts.length,
      width: document.documentElement.scrollWidth,
      charts: document.querySelectorAll('svg[role=img] > title').length,
      missing: document.querySelector('ul.missing')?.textContent,
    }));
    await page.close();
    expect(complaints).toEqual([]);
    expect(requests.filter((one) => one !== url && !one.startsWith('data:'))).toEqual([]);
    // Two figures of each of three groups of ways, and three sweeps.
    expect(seen).toEqual({
      title: 'zerocopy: the bench',
      scripts: 0,
      width,
      charts: 9,
      missing: HOSTILE,
    });
    expect(colours[ground]).toBeGreaterThan(0.5);
    expect(colours[accent]).toBeGreaterThan(0.001);
  });

  test('every drawing is XML, of the page and of the charts', async () => {
    const drawings = [
      ...Object.values(drawCharts()),
      ...(drawPage().match(/<svg [\s\S]*?<\/svg>/g) ?? []),
    ];
    expect(drawings).toHaveLength(11);
    const page = await browser.newPage();
    const errors = await page.evaluate(
      (texts) =>
        texts.map((text) => {
          const parsed = new DOMParser().parseFromString(text, 'application/xml');
          return parsed.querySelector('parsererror')?.textContent ?? parsed.querySelector('script');
        }),
      drawings,
    );
    await page.close();
    expect(errors).toEqual(drawings.map(() => null));
  });
});
