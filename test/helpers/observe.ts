// What is told of the transfers of a test.
import { tracingChannel } from 'node:diagnostics_channel';
import { type Stats, stats, type TransferTrace } from 'zerocopy';
import { onTestFinished } from './scope';

const EVENTS = ['start', 'end', 'asyncStart', 'asyncEnd', 'error'] as const;
type Event = (typeof EVENTS)[number];

/** One transfer, and the events that there were of it, in order. */
export interface Observed {
  trace: TransferTrace;
  events: Event[];
}

/** Listens until the test ends. Transfers are in the order in which they began. */
export function observed(): Observed[] {
  const all: Observed[] = [];
  const listen = (event: Event) => (message: unknown) => {
    const trace = message as TransferTrace;
    const known = all.find((one) => one.trace === trace);
    if (known) known.events.push(event);
    else all.push({ trace, events: [event] });
  };
  const subscribers = Object.fromEntries(EVENTS.map((event) => [event, listen(event)])) as Record<
    Event,
    (message: unknown) => void
  >;
  const channel = tracingChannel('zerocopy:transfer');
  channel.subscribe(subscribers);
  onTestFinished(() => channel.unsubscribe(subscribers));
  return all;
}

/** What subscribers of 'error' are given, as it is at that moment. */
export function errorEvents(): TransferTrace[] {
  const all: TransferTrace[] = [];
  const note = (message: unknown) => all.push({ ...(message as TransferTrace) });
  const { error } = tracingChannel('zerocopy:transfer');
  error.subscribe(note);
  onTestFinished(() => error.unsubscribe(note));
  return all;
}

export const WELL: Event[] = ['start', 'end', 'asyncStart', 'asyncEnd'];
export const FAILED: Event[] = ['start', 'end', 'error', 'asyncStart', 'asyncEnd'];

/** What has been added to the totals since `before`; zeros are left out. */
export function addedSince(before: Stats) {
  const now = stats();
  const grown = <Key extends string>(totals: Record<Key, number>, old: Record<Key, number>) =>
    Object.fromEntries(
      Object.entries<number>(totals)
        .map(([key, value]) => [key, value - old[key as Key]] as const)
        .filter(([, value]) => value !== 0),
    );
  return {
    transfers: grown(now.transfers, before.transfers),
    bytes: grown(now.bytes, before.bytes),
    fallbacks: grown(now.fallbacks, before.fallbacks),
    failures: now.failures - before.failures,
    underWay: now.underWay - before.underWay,
  };
}
