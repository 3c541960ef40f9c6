// What a program does to streams beside transfers.
import * as net from 'node:net';
import { pattern } from '../helpers/files';
import { receiveBytes } from '../helpers/sockets';
import type { Consumer, Inlet, Outlet } from './ends';
import { closeAtItsTurn, type OpenDuplex, type OpenHttp, reset } from './lanes';
import { exactly } from './pieces';
import type { Operation } from './program';
import type { Of, World } from './world';

export function write(world: World, operation: Of<'write'>, i: number): void {
  const outlet = world.outlet(operation);
  if (!outlet || outlet.closing || outlet.relayed) return;
  const { size, as } = operation;
  world.count('write', outlet.column);
  world.when(outlet, () => {
    if (outlet.sink.destroyed) return;
    const bytes = pattern(size, 1000 + i);
    let calls = 0;
    let failure: Error | undefined;
    const done = (error?: Error | null) => {
      calls += 1;
      failure ??= error ?? undefined;
    };
    outlet.pieces.push(() => exactly(`write ${i}`, bytes));
    if (as === 'bytes') outlet.sink.write(bytes, done);
    else outlet.sink.write(bytes.toString('latin1'), 'latin1', done);
    // Those of a message that is destroyed may be forgotten.
    world.checks.push(() => {
      const mayFail = outlet.causes.size > 0;
      if (failure && !mayFail) return `write ${i}: ${failure.stack}`;
      if (calls === 1 || (calls === 0 && mayFail)) return undefined;
      return `write ${i} has called back ${calls} times`;
    });
  });
}

export function end(world: World, operation: Of<'end'>): void {
  const outlet = world.outlet(operation);
  if (!outlet || outlet.closing || outlet.relayed || outlet.promised !== undefined) return;
  world.count('end', outlet.column);
  outlet.closing = true;
  world.when(outlet, () => {
    uncorkMessage(outlet);
    outlet.sink.end();
  });
}

/** Some releases of Node 22 and 24 end a message that is corked before they send what it has kept. */
export function uncorkMessage(outlet: Outlet): void {
  for (; outlet.kind === 'http' && outlet.corks > 0; outlet.corks--) outlet.sink.uncork();
}

export function cork(world: World, operation: Of<'cork'> | Of<'uncork'>): void {
  const outlet = world.outlet(operation);
  // A response that is corked when it has ended leaves its socket corked, for good.
  if (!outlet || outlet.relayed || outlet.closing) return;
  world.count(operation.op, outlet.column);
  if (operation.op === 'cork') {
    outlet.corks += 1;
    outlet.sink.cork();
  } else if (outlet.corks > 0) {
    outlet.corks -= 1;
    outlet.sink.uncork();
  }
}

export function feed(world: World, { lane, size }: Of<'feed'>, i: number): void {
  const duplex = world.duplex(lane);
  if (!duplex) return;
  world.count('peer: write', duplex.outlet.column);
  duplex.inlet.feed(pattern(size, 1000 + i));
}

export function endFeed(world: World, { lane }: Of<'end of feed'>): void {
  const duplex = world.duplex(lane);
  if (!duplex) return;
  world.count('peer: end', duplex.outlet.column);
  duplex.inlet.endFeed();
}

export function read(world: World, { lane, size }: Of<'read'>, i: number): void {
  const duplex = world.duplex(lane);
  if (!duplex || duplex.inlet.relayed) return;
  const { inlet } = duplex;
  world.count('read in JavaScript', duplex.outlet.column);
  world.when(inlet, () => readWhenFree(world, inlet, size, `read ${i}`));
}

async function readWhenFree(world: World, inlet: Inlet, size: number, what: string): Promise<void> {
  inlet.line.hold();
  const end = world.begin();
  // Transfers that have been asked for go first.
  await Promise.all(inlet.asked);
  const bytes = await receiveBytes(inlet.source as net.Socket, size);
  inlet.consumers.push(readerOf(what, bytes, size));
  end();
  inlet.line.release();
}

export function readerOf(what: string, got: Buffer, wanted: number): Consumer {
  return {
    what,
    taken: () => got.length,
    check: (bytes) => (bytes.equals(got) ? undefined : 'it has read other bytes'),
    foundEnd: () => got.length < wanted,
  };
}

export function flow(world: World, operation: Of<'flow'>): void {
  const outlet = world.outlet(operation);
  if (!outlet) return;
  const { how } = operation;
  world.count(`peer: ${typeof how === 'number' ? 'read some' : how}`, outlet.column);
  if (how === 'resume') outlet.reader.read(Number.POSITIVE_INFINITY);
  else outlet.reader.read(how === 'pause' ? 0 : how);
}

export function destroy(world: World, operation: Of<'destroy'>): void {
  const lane = world.laneOf(operation);
  const outlet = world.outlet(operation);
  if (!lane || !outlet) return;
  const { end, how } = operation;
  world.count(`destroy ${end}: ${how}`, outlet.column);
  if (end === 'peer') return destroyPeer(lane, how);
  mayClose(lane, outlet, 'ERR_MINE');
  if ('outlets' in lane) closeAtItsTurn(outlet.sink);
  if (how === 'reset') reset(outlet.sink);
  else if (how === 'plain') outlet.sink.destroy();
  else outlet.sink.destroy(Object.assign(new Error('mine'), { code: 'ERR_MINE' }));
}

/** What goes to a sink that is going to be closed may fail, and what comes from it, if it is one. */
function mayClose(lane: OpenDuplex | OpenHttp, outlet: Outlet, ...codes: string[]): void {
  // What newer releases of Node 24 tell responses that wait.
  if ('outlets' in lane) codes.push('ECONNRESET');
  outlet.mayFail(...codes);
  if ('inlet' in lane && lane.isOne) lane.inlet.mayFail(...codes);
}

function destroyPeer(lane: OpenDuplex | OpenHttp, how: 'plain' | 'error' | 'reset'): void {
  const codes = ['EPIPE', 'ECONNRESET'];
  if ('inlet' in lane) {
    lane.outlet.mayFail(...codes);
    lane.inlet.mayFail(...codes);
    lane.closePeer(how);
  } else {
    for (const outlet of lane.outlets) outlet.mayFail(...codes);
    if (how === 'reset') reset(lane.client);
    else lane.client.destroy();
  }
}

/** The socket at the near end of a lane, under its sink. */
export function socketOf(lane: OpenDuplex | OpenHttp): net.Socket | undefined {
  if ('socket' in lane) return lane.socket;
  const { sink } = lane.outlet;
  return sink instanceof net.Socket ? sink : undefined;
}

export function setTimeoutOf(world: World, operation: Of<'timeout'>): void {
  const lane = world.laneOf(operation);
  const outlet = world.outlet(operation);
  const socket = lane && socketOf(lane);
  if (!socket || !outlet) return;
  world.count(`idle timeout${operation.destroys ? ', which destroys' : ''}`, outlet.column);
  // A server destroys a connection that has timed out, if nobody else says what is to be done.
  const destroys = operation.destroys || 'outlets' in lane;
  if (destroys) {
    socket.prependListener('timeout', () => {
      world.log.push('  timeout');
      mayClose(lane, outlet);
      socket.destroy();
    });
  }
  socket.setTimeout(operation.ms);
}

export function noDelay(world: World, operation: Of<'no delay'>): void {
  const lane = world.laneOf(operation);
  const socket = lane && socketOf(lane);
  const outlet = world.outlet(operation);
  if (!outlet || !(socket instanceof net.Socket) || socket.remoteAddress === undefined) return;
  world.count('setNoDelay', outlet.column);
  socket.setNoDelay(operation.on);
}

const counts = new WeakMap<net.Socket, number>();

/** bytesWritten never goes back. The kernel may have sent what isn't counted yet. */
export function count(world: World, operation: Operation): void {
  const lane = world.laneOf(operation);
  const socket = lane && socketOf(lane);
  const outlet = world.outlet(operation);
  // A TLSSocket counts what Node has encrypted.
  if (!lane || !outlet || !socket || outlet.kind === 'tls') return;
  world.count('bytesWritten', outlet.column);
  const { bytesWritten } = socket;
  const before = counts.get(socket) ?? 0;
  counts.set(socket, bytesWritten);
  // What had been written and not gone is no longer counted when it is destroyed.
  if (bytesWritten < before && !socket.destroyed)
    world.wrong(`bytesWritten is ${bytesWritten}, and was ${before}`);
}
