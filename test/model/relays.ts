// Two lanes whose near ends a program makes one connection of.

import type { Duplex } from 'node:stream';
import { type RelayError, type RelayResult, relay } from 'zerocopy';
import { CHUNK_BYTES } from './asked';
import type { Consumer, Inlet } from './ends';
import type { OpenDuplex } from './lanes';
import { wayOf } from './model';
import { type Lane, relayedKinds } from './program';
import type { Of, World } from './world';

type Ending = RelayResult | RelayError;

export function startRelay(world: World, operation: Of<'relay'>, i: number): void {
  const fits = (other?: OpenDuplex) => (lane: Lane) =>
    (relayedKinds as readonly string[]).includes(lane.kind) && lane !== other?.spec;
  const a = world.duplex(operation.lane, fits());
  const b = world.duplex(operation.other, fits(a));
  if (!a || !b) return;
  const all = [a.outlet, b.outlet, a.inlet, b.inlet];
  if (all.some(({ relayed }) => relayed) || a.outlet.closing || b.outlet.closing) return;
  world.count('relay', a.outlet.column);
  world.alsoCount('relay', b.outlet.column);
  for (const end of all) end.relayed = true;
  const end = world.begin();
  const start = all.reduceRight<() => void>(
    (then, end) => () => world.when(end, then),
    () => void new Relay(world, operation, `relay ${i}`, a, b).over.then(end),
  );
  start();
}

class Relay {
  readonly #what: string;
  readonly #a: OpenDuplex;
  readonly #b: OpenDuplex;
  #ending: Ending | undefined;
  readonly over: Promise<void>;

  constructor(
    world: World,
    { backend, signal }: Of<'relay'>,
    what: string,
    a: OpenDuplex,
    b: OpenDuplex,
  ) {
    this.#what = what;
    this.#a = a;
    this.#b = b;
    // What breaks one of them breaks the other.
    const causes = new Set(
      [a.outlet, a.inlet, b.outlet, b.inlet].flatMap((end) => [...end.causes]),
    );
    for (const end of [a.outlet, a.inlet, b.outlet, b.inlet]) end.causes = causes;
    const controller = new AbortController();
    if (signal) {
      const abort = () => {
        controller.abort();
        if (this.#ending) return 'after';
        for (const code of ['ABORT_ERR', 'ERR_STREAM_PREMATURE_CLOSE']) causes.add(code);
        return 'during';
      };
      world.abortable.push({ column: a.outlet.column, abort });
    }
    this.#follow(a, b, () => this.#ending?.aToB ?? 0);
    this.#follow(b, a, () => this.#ending?.bToA ?? 0);
    const settle = (ending: Ending) => {
      this.#ending = ending;
      const how = 'code' in ending ? ending.code : ending.backend;
      world.log.push(`  ${what}: ${how}, ${ending.aToB} and ${ending.bToA} bytes`);
      world.ended(`relay ${how}`);
      const wrong = this.#judge(ending, backend, causes);
      if (wrong) world.wrong(`${what}: ${wrong}`);
    };
    const [near, other] = [a.outlet.sink, b.outlet.sink] as Duplex[];
    const options = { backend, ...(signal && { signal: controller.signal }) };
    this.over = relay(near as Duplex, other as Duplex, options).then(settle, settle);
  }

  #follow(from: OpenDuplex, to: OpenDuplex, moved: () => number): void {
    const what = `${this.#what}, ${from.spec.kind} to ${to.spec.kind}`;
    const consumer: Consumer = {
      what,
      taken: moved,
      check: () => undefined,
      foundEnd: () => this.#ending !== undefined && !('code' in this.#ending),
    };
    from.inlet.consumers.push(consumer);
    to.outlet.pieces.push(() => pieceOf(what, from.inlet, consumer, this.#ending));
  }

  #judge(ending: Ending, backend: 'auto' | 'stream', causes: Set<string>): string | undefined {
    if ('code' in ending) {
      const { name, code, transferred, aToB, bToA } = ending;
      if (name !== 'RelayError' && name !== 'AbortError') return `it failed with ${ending.stack}`;
      if (!causes.has(code)) return `it failed with ${code}, for which there was no cause`;
      return transferred === aToB + bToA ? undefined : `${transferred} are not ${aToB} + ${bToA}`;
    }
    const [a, b] = [this.#a.spec.kind, this.#b.spec.kind];
    const fallback = wayOf(a, b, backend).fallback ?? wayOf(b, a, backend).fallback;
    if (ending.fallback?.code !== fallback) {
      return `its fallback is ${ending.fallback?.code}, not ${fallback}`;
    }
    return ending.backend === (fallback ? 'stream' : 'splice') ? undefined : ending.backend;
  }
}

function pieceOf(what: string, inlet: Inlet, consumer: Consumer, ending: Ending | undefined) {
  const bytes = inlet.fed.subarray(inlet.before(consumer));
  const moved = consumer.taken();
  const uncounted = ending && 'code' in ending && ending.backend === 'stream' ? CHUNK_BYTES : 0;
  return { what, bytes, least: moved, most: Math.min(bytes.length, moved + uncounted) };
}
