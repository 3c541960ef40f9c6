// The code of docs/observability.md, as it stands there.
import { execFile } from 'node:child_process';
import * as fs from 'node:fs';
import { promisify } from 'node:util';
import { expect, test } from 'vitest';
import { stats } from 'zerocopy';
import { testFile } from './helpers/files';

const page = fs.readFileSync('docs/observability.md', 'utf8');

/** The code block below a heading. */
function codeUnder(heading: string): string {
  const [, section = ''] = page.split(`## ${heading}\n`);
  const code = /```js\n([\s\S]*?)```/.exec(section)?.[1];
  if (code === undefined) throw new Error(`There is no code under ${heading}`);
  return code;
}

/** Runs it, and then `use`, as one module in a process of its own. */
async function run(recipe: string, use: string): Promise<string> {
  const args = ['--input-type=module', '--eval', `${recipe}\n${use}`];
  const { stdout } = await promisify(execFile)(process.execPath, args);
  return stdout;
}

test('the recipe for prom-client', async () => {
  const source = testFile(100_000).path;
  const exposition = await run(
    codeUnder('Prometheus'),
    `
      import { PassThrough } from 'node:stream';
      import { copyFile, transfer } from 'zerocopy';
      const source = ${JSON.stringify(source)};
      await copyFile(source, source + '-1');
      await transfer(source, new PassThrough().resume());
      await metrics();
      await copyFile(source, source + '-2');
      await transfer(source + '-missing', source + '-3').catch(() => {});
      transfer(source, new PassThrough());
      console.log(await metrics());
    `,
  );
  const lines = exposition.split('\n');
  for (const line of [
    '# TYPE zerocopy_transfers_total counter',
    'zerocopy_transfers_total{backend="copy_file_range"} 2',
    'zerocopy_transfers_total{backend="stream"} 1',
    'zerocopy_bytes_total{backend="copy_file_range"} 200000',
    'zerocopy_bytes_total{backend="stream"} 100000',
    'zerocopy_bytes_total{backend="splice"} 0',
    'zerocopy_fallbacks_total{code="SINK_TYPE"} 1',
    'zerocopy_fallbacks_total{code="TLS"} 0',
    'zerocopy_failures_total 1',
    '# TYPE zerocopy_transfers_under_way gauge',
    'zerocopy_transfers_under_way 1',
  ]) {
    expect(lines).toContain(line);
  }
  const codes = lines.filter((line) => line.startsWith('zerocopy_fallbacks_total{'));
  expect(codes).toHaveLength(Object.keys(stats().fallbacks).length);
});

test('the log of slow transfers', async () => {
  const source = testFile(100_000).path;
  const log = await run(
    codeUnder('Traces'),
    `
      import { PassThrough } from 'node:stream';
      import { setTimeout } from 'node:timers/promises';
      import { transfer } from 'zerocopy';
      const source = ${JSON.stringify(source)};
      await transfer(source, new PassThrough().resume());
      const controller = new AbortController();
      const { signal } = controller;
      const stuck = transfer(source, new PassThrough(), { signal });
      await setTimeout(1100);
      controller.abort();
      await stuck.catch(() => {});
    `,
  );
  expect(log).toMatch(
    /^file to stream: \d+ bytes by stream \(SINK_TYPE\) in 1\d\d\d ms, failed: The operation was aborted\n$/,
  );
});
