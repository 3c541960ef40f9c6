// Processes that end at every stage of a transfer, in every way.
import * as fs from 'node:fs';
import { createRequire } from 'node:module';
import * as path from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { denseFile } from './helpers/copies';
import { scratchRoot } from './helpers/files';
import { Peers } from './helpers/peers';
import { runNode } from './helpers/process';
import { whyNoStrace } from './helpers/skips';

const { stagesOf } = createRequire(import.meta.url)('./programs/stages.cjs') as {
  stagesOf: Record<string, string[]>;
};

const ways = {
  exit: { code: 7, signal: null },
  throw: { code: 1, signal: null },
  rejection: { code: 1, signal: null },
  SIGTERM: { code: null, signal: 'SIGTERM' },
  SIGKILL: { code: null, signal: 'SIGKILL' },
  /** All that it has is closed or aborted. */
  itself: { code: 0, signal: null },
};
type Way = keyof typeof ways;

const LIMIT_MS = 20_000;

// Makes any file a cold one, and its disk slow.
const COLD = [
  ...['-f', '-qq', '-o', '/dev/null', '-e', 'trace=preadv2,readahead'],
  ...['-e', 'inject=preadv2:error=EAGAIN', '-e', 'inject=readahead:delay_enter=1000000'],
];
const why = whyNoStrace(...COLD);

const MIB = 1024 * 1024;
const root = fs.mkdtempSync(path.join(scratchRoot, 'exits-'));
let file: string;
let largeFile: string;

beforeAll(() => {
  file = denseFile(16 * MIB, root);
  largeFile = denseFile(64 * MIB, root);
});

afterAll(() => fs.rmSync(root, { recursive: true }));

async function endsBy(way: Way, goal: string, wrapper: string[] = []): Promise<void> {
  const peers = await Peers.listen();
  const folder = fs.mkdtempSync(path.join(root, 'sinks-'));
  const place = JSON.stringify({ folder, file, largeFile, ports: peers.ports });
  const { code, signal, stdout, stderr } = await runNode('exit.cjs', [goal, way, place], {
    wrapper,
    limitMs: LIMIT_MS,
  });
  // strace, when a process is killed whose call it delays.
  const said = stderr.replace(/^strace: .*has delayed wait data set already\n/gm, '');
  await peers.ended();
  fs.rmSync(folder, { recursive: true });
  const loud = way === 'throw' || way === 'rejection';
  expect({ way, code, signal, stdout, stderr: loud ? '' : said }).toEqual({
    way,
    ...ways[way],
    stdout: 'ready\n',
    stderr: '',
  });
  if (loud) {
    // And nothing else.
    expect(stderr.match(/\w*(Error|Warning)\b.*/g)).toEqual(
      expect.arrayContaining(['Error: uncaught']),
    );
    expect(stderr).not.toMatch(/Warning|FATAL|TransferError|RelayError/);
  }
}

async function everyWay(goal: string, wrapper?: string[]): Promise<void> {
  await Promise.all((Object.keys(ways) as Way[]).map((way) => endsBy(way, goal, wrapper)));
}

describe.each(Object.keys(stagesOf))('%s', (kind) => {
  const stages = stagesOf[kind] ?? [];
  test.each(stages.filter((stage) => stage !== 'warming'))('%s: a process that ends', (stage) =>
    everyWay(`${kind}/${stage}`),
  );

  test.skipIf(why).each(stages.filter((stage) => stage === 'warming'))(
    `%s: a process that ends${why}`,
    (stage) => everyWay(`${kind}/${stage}`, ['strace', ...COLD]),
  );
});

test.each(['loading', 'loaded'])('the addon %s: a process that ends', (stage) =>
  everyWay(`addon/${stage}`),
);
