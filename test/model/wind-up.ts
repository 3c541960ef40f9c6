// Lets all of a program come to its end, and looks at what has come of it.
import type { Readable } from 'node:stream';
import { transfer } from 'zerocopy';
import { pattern } from '../helpers/files';
import { answersOf } from '../helpers/http';
import { FileTarget, type Outlet } from './ends';
import { closeAtItsTurn, type OpenDuplex, type OpenHttp } from './lanes';
import { exactly, mismatch } from './pieces';
import { readerOf, socketOf } from './streams';
import { turn, type World } from './world';

export async function windUp(world: World): Promise<void> {
  world.log.push('wind up');
  for (const lane of [...world.duplexes, ...world.connections]) {
    socketOf(lane)?.setTimeout(0);
    for (const outlet of 'outlets' in lane ? lane.outlets : [lane.outlet]) {
      for (; outlet.corks > 0; outlet.corks--) outlet.sink.uncork();
      outlet.reader.read(Number.POSITIVE_INFINITY);
    }
    if ('inlet' in lane) lane.inlet.endFeed();
  }
  // A response has its turn when the one before it has ended.
  const messages = world.connections.map(async ({ outlets }) => {
    for (const outlet of outlets) {
      await idle(world, outlet);
      await endMessage(outlet);
    }
  });
  await Promise.all([...messages, idle(world)]);
  for (const { outlet } of world.duplexes) {
    if (!outlet.sink.writableEnded && !outlet.sink.destroyed && !outlet.relayed) outlet.sink.end();
  }
  for (const { outlet } of world.duplexes) await outlet.reader.done;
  for (const { reader } of world.connections) await reader.done;
  for (const { inlet } of world.duplexes) {
    const { source } = inlet;
    if (source.readableEnded || source.destroyed || inlet.relayed) continue;
    inlet.consumers.push(readerOf('the rest', await readRest(source), Number.POSITIVE_INFINITY));
  }
}

async function idle(world: World, end?: Outlet): Promise<void> {
  while (!world.isIdle(end)) {
    // Again and again: some are made meanwhile.
    for (const piping of world.pipings) piping.windUp();
    await turn();
  }
}

/** All that comes until the end, or until it closes. */
function readRest(source: Readable): Promise<Buffer> {
  return new Promise((resolve) => {
    const chunks: Buffer[] = [];
    const end = () => resolve(Buffer.concat(chunks));
    source.on('data', (chunk: Buffer) => chunks.push(chunk));
    source.once('end', end).once('close', end);
    source.resume();
  });
}

/** Ends a response, with as many bytes as it has promised. */
async function endMessage(outlet: Outlet): Promise<void> {
  const { sink, promised } = outlet;
  if (sink.writableEnded || sink.destroyed) return;
  if (promised === undefined) return void sink.end();
  const pieces = outlet.allPieces();
  const isKnown = pieces.every(({ least, most }) => least === most);
  if (!isKnown) {
    outlet.breaksOff();
    closeAtItsTurn(sink);
    return void sink.destroy();
  }
  const given = pieces.reduce((sum, { most }) => sum + most, 0);
  const rest = pattern(promised - given, 999);
  outlet.pieces.push(() => exactly('the rest', rest));
  // Which ends the message.
  await transfer([rest], sink).catch((error) => {
    if (!outlet.causes.has(error.code)) throw error;
  });
}

export function check(world: World): void {
  for (const lane of world.lanes) {
    if (lane instanceof FileTarget) {
      const wrong = lane.check();
      if (wrong) world.wrong(`${lane.column}: ${wrong}`);
    } else if ('inlet' in lane) {
      checkDuplex(world, lane);
    } else {
      checkHttp(world, lane);
    }
  }
  for (const check of world.checks) {
    const wrong = check();
    if (wrong) world.wrong(wrong);
  }
}

function checkDuplex(world: World, { outlet, inlet, spec }: OpenDuplex): void {
  const { column, reader, socket, sink } = outlet;
  const taken = inlet.check();
  if (taken) world.wrong(`${column}, its source: ${taken}`);
  const whole = outlet.causes.size === 0;
  const wrong = mismatch(reader.bytes, outlet.allPieces(), whole);
  if (wrong) world.wrong(`${column}: ${wrong}`);
  if (inlet.causes.size === 0 && socket && spec.kind !== 'pipe') {
    const { bytesRead } = socket;
    const fed = inlet.fed.length;
    if (bytesRead !== fed) world.wrong(`${column}: bytesRead is ${bytesRead}, not ${fed}`);
  }
  if (!whole) return;
  if (reader.ended !== 'end') world.wrong(`${column}: the reader has found no end`);
  if (!sink.writableFinished) world.wrong(`${column}: the sink has not finished`);
  if (socket && socket.bytesWritten !== reader.length) {
    world.wrong(`${column}: bytesWritten is ${socket.bytesWritten}, not ${reader.length}`);
  }
}

function checkHttp(world: World, { outlets, reader, socket }: OpenHttp): void {
  const whole = outlets[0]?.causes.size === 0;
  const answers = answersOf(reader.bytes, !whole);
  for (const [i, outlet] of outlets.entries()) checkAnswer(world, outlet, answers[i], whole);
  if (whole && socket.bytesWritten !== reader.length) {
    world.wrong(`http: bytesWritten is ${socket.bytesWritten}, not ${reader.length}`);
  }
}

function checkAnswer(
  world: World,
  outlet: Outlet,
  answer: ReturnType<typeof answersOf>[number] | undefined,
  whole: boolean,
): void {
  const pieces = outlet.allPieces();
  if (!answer) {
    if (whole) world.wrong(`${outlet.column}: no answer`);
    return;
  }
  const wrong = mismatch(answer.body, pieces, whole || answer.whole);
  if (wrong) world.wrong(`${outlet.column}: ${wrong}`);
  if (whole && !answer.whole) world.wrong(`${outlet.column}: the answer is not whole`);
}
