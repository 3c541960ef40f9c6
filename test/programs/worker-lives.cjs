// Worker threads that come to a stage of a transfer, and end there: all kinds, stages and ways to end,
// again and again, several at once. Prints what is left of them.
//   worker-lives.cjs main|workers ROUNDS PLACE
// 'main': the addon is in the main thread too. 'workers': in them alone, so that it would be unloaded
// with the last of them, were it not linked with -z nodelete, while its threads run in it.
'use strict';

const fs = require('node:fs');
const path = require('node:path');
const { setTimeout: sleep } = require('node:timers/promises');
const { isMainThread, parentPort, Worker, workerData } = require('node:worker_threads');
const { block, end, reach, stagesOf } = require('./stages.cjs');

const AT_ONCE = 6;
const LIMIT_MS = 20_000;
const ways = { terminate: 1, exit: 7, throw: 1, rejection: 1, itself: 0 };

async function work({ kind, stage, way, place }) {
  const life = await reach(kind, stage, place);
  parentPort.postMessage('reached');
  if (way !== 'terminate') return end(way, life);
  // What has been posted is not to be told before that.
  if (stage === 'posted') block(LIMIT_MS);
  parentPort.ref(); // nor is it to end by itself
}

function* lives(rounds) {
  for (let round = 0; round < rounds; round++) {
    for (const [kind, stages] of Object.entries(stagesOf)) {
      for (const stage of stages) {
        if (stage === 'warming') continue; // needs a slow disk
        for (const way of Object.keys(ways)) yield { kind, stage, way };
      }
    }
  }
}

async function live(life, place) {
  const { kind, stage, way } = life;
  const name = `${kind}/${stage}/${way}`;
  const worker = new Worker(__filename, { workerData: { ...life, place } });
  const hangs = setTimeout(() => {
    throw new Error(`${name} hasn't ended after ${LIMIT_MS} ms`);
  }, LIMIT_MS);
  let failure = '';
  const code = await new Promise((resolve) => {
    worker.on('message', () => way === 'terminate' && worker.terminate());
    worker.on('error', (error) => {
      failure = error.message;
    });
    worker.on('exit', resolve);
  });
  clearTimeout(hangs);
  const loud = way === 'throw' || way === 'rejection';
  if (code !== ways[way] || failure !== (loud ? 'uncaught' : '')) {
    throw new Error(`${name}: exit code ${code} ${failure}`);
  }
  for (const file of fs.readdirSync(place.folder)) fs.unlinkSync(path.join(place.folder, file));
}

function descriptors() {
  return fs.readdirSync('/proc/self/fd').flatMap((fd) => {
    try {
      return [fs.readlinkSync(`/proc/self/fd/${fd}`)];
    } catch {
      return []; // the one that lists them
    }
  });
}

function measure() {
  for (let i = 0; i < 3; i++) global.gc();
  const links = descriptors();
  const files = links.filter((link) => link.startsWith('/')).length;
  return {
    descriptors: links.length - files,
    files,
    threads: fs.readdirSync('/proc/self/task').length,
    rss: process.memoryUsage.rss(),
  };
}

/** What is there when it has stopped falling: idle warmers stay for a second. */
async function settled() {
  await sleep(1100);
  let last = measure();
  for (;;) {
    await sleep(300);
    const now = measure();
    if (now.descriptors >= last.descriptors && now.threads >= last.threads) return now;
    last = now;
  }
}

async function run(all, place) {
  let ended = 0;
  const lane = async (_, number) => {
    const folder = path.join(place.folder, `lane-${number}`);
    fs.mkdirSync(folder, { recursive: true });
    for (const life of all) {
      await live(life, { ...place, folder });
      ended += 1;
    }
  };
  await Promise.all(Array.from({ length: AT_ONCE }, lane));
  return ended;
}

async function main(placement, rounds, place) {
  if (placement === 'main') require('zerocopy');
  // Made with the first: threads of the engine, of libuv's pool, of V8; allocators' arenas.
  const first = await run(lives(1), place);
  const before = await settled();
  const rest = await run(lives(rounds - 1), place);
  const after = await settled();
  // And the engine is still of use.
  const life = await reach('send', 'ended', place);
  life.finish();
  console.log(JSON.stringify({ ended: first + rest, before, after }));
}

if (isMainThread) main(process.argv[2], Number(process.argv[3]), JSON.parse(process.argv[4]));
else work(workerData);
