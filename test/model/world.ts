// What there is while a program runs: its ends, and the account of what must come of it.
import type { Asked } from './asked';
import type { Corpus } from './corpus';
import type { Column, Coverage } from './coverage';
import { type End, FileTarget, type Outlet } from './ends';
import { type OpenDuplex, type OpenHttp, type OpenLane, openLane } from './lanes';
import { OwnFile } from './own-file';
import type { Piping } from './pipes';
import { duplexOf, promisesOf, sinkOf } from './plan';
import { isDuplex, type Lane, type Operation, type Program } from './program';

export type Of<Op extends Operation['op']> = Extract<Operation, { op: Op }>;

export class World {
  readonly program: Program;
  readonly corpus: Corpus;
  readonly #coverage: Coverage;
  /** What has happened, for whoever looks for the cause of a failure. */
  readonly log: string[] = [];
  readonly wrongs: string[] = [];
  /** What is looked at when all is over, beside the ends. */
  readonly checks: (() => string | undefined)[] = [];
  readonly lanes: OpenLane[] = [];
  readonly asked: Asked[] = [];
  readonly pipings: Piping[] = [];
  /** What operations may abort; it tells whether it had settled by then. */
  readonly abortable: { column: Column; abort(): 'during' | 'after' }[] = [];
  own: OwnFile | undefined;
  /** Operations that wait for an end to be free, and what has begun and not ended. */
  #onTheirWay = 0;
  operations = 0;

  constructor(program: Program, corpus: Corpus, coverage: Coverage) {
    this.program = program;
    this.corpus = corpus;
    this.#coverage = coverage;
  }

  async open(): Promise<void> {
    const { lanes } = this.program;
    if (JSON.stringify(this.program).includes('"own"')) this.own = await OwnFile.make();
    for (const [i, lane] of lanes.entries()) {
      this.lanes.push(await openLane(lane, promisesOf(this.program, i)));
    }
  }

  wrong(what: string): void {
    this.log.push(`WRONG ${what}`);
    this.wrongs.push(what);
  }

  /** An operation has been done to an end. */
  count(operation: string, column: Column): void {
    this.operations += 1;
    this.#coverage.count(operation, column);
  }

  /** Of an operation that has been counted. */
  alsoCount(operation: string, column: Column): void {
    this.#coverage.count(operation, column);
  }

  ended(how: string): void {
    this.#coverage.ended(how);
  }

  // The ends that operations are for.

  sink(operation: Operation): Outlet | FileTarget | undefined {
    const index = sinkOf(this.program, operation);
    if (!index) return undefined;
    const lane = this.lanes[index.lane] as OpenLane;
    if (lane instanceof FileTarget) return lane;
    return 'outlets' in lane ? lane.outlets[index.response] : lane.outlet;
  }

  outlet(operation: Operation): Outlet | undefined {
    const sink = this.sink(operation);
    return sink instanceof FileTarget ? undefined : sink;
  }

  laneOf(operation: Operation): OpenDuplex | OpenHttp | undefined {
    const index = sinkOf(this.program, operation);
    const lane = index && this.lanes[index.lane];
    return lane instanceof FileTarget ? undefined : lane;
  }

  duplex(from: number, fits: (lane: Lane) => boolean = isDuplex): OpenDuplex | undefined {
    const index = duplexOf(this.program, from, fits);
    return index === undefined ? undefined : (this.lanes[index] as OpenDuplex);
  }

  get duplexes(): OpenDuplex[] {
    return this.lanes.filter((lane): lane is OpenDuplex => 'inlet' in lane);
  }

  get connections(): OpenHttp[] {
    return this.lanes.filter((lane): lane is OpenHttp => 'outlets' in lane);
  }

  // What is on its way.

  /** Says what a program that hangs waits for. */
  get waitsFor(): string {
    const transfers = this.asked.filter(({ outcome }) => !outcome).map(({ what }) => what);
    const ends = this.lanes.map((lane) => {
      if (lane instanceof FileTarget) return `${lane.column}: ${lane.onTheirWay}`;
      const outlets = 'outlets' in lane ? lane.outlets : [lane.outlet];
      const counts = outlets.map(({ onTheirWay, reader, sink }) =>
        [onTheirWay, sink.destroyed ? 'destroyed' : reader.ended].join(' '),
      );
      const inlet = 'inlet' in lane ? `, source ${lane.inlet.onTheirWay}` : '';
      return `${lane.spec.kind}: ${counts}${inlet}`;
    });
    return `transfers: ${transfers.join(', ')}; ends: ${ends.join('; ')}`;
  }

  /** Whether all has ended that was on its way, or all that was for one end. */
  isIdle(end?: End): boolean {
    return end ? end.onTheirWay === 0 : this.#onTheirWay === 0;
  }

  /** Something begins, for these ends; returns what ends it. */
  begin(...ends: End[]): () => void {
    this.#onTheirWay += 1;
    for (const end of ends) end.onTheirWay += 1;
    return () => {
      this.#onTheirWay -= 1;
      for (const end of ends) end.onTheirWay -= 1;
    };
  }

  /** When the end is free. */
  when(end: End, then: () => void): void {
    const over = this.begin(end);
    end.line.run(() => {
      then();
      over();
    });
  }
}

export const turn = () => new Promise<void>((resolve) => setImmediate(resolve));

export async function turns(count: number): Promise<void> {
  for (let i = 0; i < count; i++) await turn();
}
