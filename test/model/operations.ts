// One operation of a program after the other.
import { pipe } from './pipes';
import type { Operation } from './program';
import { startRelay } from './relays';
import * as streams from './streams';
import { send, take } from './transfers';
import { type Of, turn, turns, type World } from './world';

/** How many turns of the event loop to wait for a transfer to settle: it may wait for its peer. */
const PATIENCE = 30;

export function perform(world: World, operation: Operation, i: number): Promise<void> | void {
  switch (operation.op) {
    case 'write':
      return streams.write(world, operation, i);
    case 'send':
    case 'gather':
      return send(world, operation, i);
    case 'take':
      return take(world, operation, i);
    case 'pipe':
      return pipe(world, operation, i);
    case 'meddle':
      return world.pipings[operation.pipe % world.pipings.length]?.meddle(operation.how);
    case 'relay':
      return startRelay(world, operation, i);
    case 'abort':
      return abort(world, operation);
    case 'flow':
      return streams.flow(world, operation);
    case 'destroy':
      return streams.destroy(world, operation);
    case 'timeout':
      return streams.setTimeoutOf(world, operation);
    case 'truncate':
      return truncate(world, operation);
    case 'end':
      return streams.end(world, operation);
    case 'cork':
    case 'uncork':
      return streams.cork(world, operation);
    case 'no delay':
      return streams.noDelay(world, operation);
    case 'feed':
      return streams.feed(world, operation, i);
    case 'end of feed':
      return streams.endFeed(world, operation);
    case 'read':
      return streams.read(world, operation, i);
    case 'count':
      return streams.count(world, operation);
    case 'turns':
      return turns(operation.count);
    case 'wait':
      return new Promise((resolve) => setTimeout(resolve, operation.ms));
    case 'settle':
      return settle(world, operation);
  }
}

function abort(world: World, { transfer }: Of<'abort'>): void {
  const found = world.abortable[transfer % world.abortable.length];
  if (found) world.count(`abort: ${found.abort()}`, found.column);
}

function truncate(world: World, { size }: Of<'truncate'>): void {
  const { own } = world;
  if (!own) return;
  for (const column of own.truncate(size)) world.count('truncate a source', column);
}

async function settle(world: World, { transfer }: Of<'settle'>): Promise<void> {
  const asked = world.asked[transfer % world.asked.length];
  for (let i = 0; asked && !asked.outcome && i < PATIENCE; i++) await turn();
}
