// Transfers to an HTTP message that has made up no headers yet, while their sources are being opened:
// they have no turn there, since the answer may be another one yet, but each has its place.
//
// What Node does not document of messages is touched here: `_storeHeader`, `_contentLength`.
import type { OutgoingMessage } from 'node:http';

interface Place {
  /** Whether what others write goes behind it. */
  keeps: boolean;
  take: () => void;
}

interface Internals {
  _storeHeader(...head: unknown[]): void;
  /** What end() takes for the length of all of the body: that of its chunk. */
  _contentLength: number | null;
}

const placesOf = new WeakMap<OutgoingMessage, Set<Place>>();

/**
 * Calls `take` when a transfer that was asked for later takes its turn, or when something is written:
 * before that if it `keeps` its place, else behind it. Returns what gives the place up.
 */
export function keepPlace(message: OutgoingMessage, keeps: boolean, take: () => void): () => void {
  const places = placesOf.get(message) ?? watch(message);
  const place = { keeps, take };
  places.add(place);
  return () => {
    places.delete(place);
  };
}

/** Has all of them take their turns, in the order in which they were asked for. */
export function takePlaces(message: OutgoingMessage): void {
  const places = placesOf.get(message);
  if (places) takeAll(places, [...places]);
}

function takeAll(places: Set<Place>, some: Place[]): void {
  // Before the first turn is taken: for that headers are made up.
  for (const place of some) places.delete(place);
  for (const { take } of some) take();
}

/**
 * Whatever is written to a message, its headers are made up before that. The hook stays: a message has
 * headers once.
 */
function watch(message: OutgoingMessage): Set<Place> {
  const places = new Set<Place>();
  const internals = message as OutgoingMessage & Internals;
  const { _storeHeader } = internals;
  placesOf.set(message, places);
  internals._storeHeader = (...head) => {
    const kept = [...places].filter(({ keeps }) => keeps);
    if (kept.length > 0) internals._contentLength = null;
    _storeHeader.apply(message, head);
    takeAll(places, kept);
    // The others behind what is being written; and not when their sources are open, or one asked for
    // later, from the same stream, would have its turn and wait for them.
    if (places.size > 0) process.nextTick(takePlaces, message);
  };
  return places;
}
