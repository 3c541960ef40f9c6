// Random programs.
import * as fc from 'fast-check';
import { corpusSizes } from './corpus';
import { OWN_BYTES } from './plan';
import {
  type DuplexKind,
  type DuplexLane,
  type FileLane,
  fileKinds,
  framings,
  type HttpLane,
  type Lane,
  meddlings,
  type Operation,
  type Part,
  type Program,
  type Range,
} from './program';

const KIB = 1024;

/** Where things change, and now and then anything in between. */
const size = fc.oneof(
  {
    weight: 12,
    arbitrary: fc.constantFrom(0, 1, 4095, 4096, 4097, 24 * KIB - 1, 24 * KIB, 24 * KIB + 1),
  },
  {
    weight: 5,
    arbitrary: fc.constantFrom(64 * KIB - 1, 64 * KIB, 64 * KIB + 1, 80 * KIB, 128 * KIB + 16),
  },
  { weight: 6, arbitrary: fc.nat(3000) },
  { weight: 2, arbitrary: fc.nat(100_000) },
);

const sizeInMemory = fc.oneof(
  { weight: 30, arbitrary: size },
  { weight: 1, arbitrary: fc.constantFrom(256 * KIB, 256 * KIB + 1, 400_000) },
);

/** The last of the corpus is large. */
const LARGE = corpusSizes.length - 1;
const file = fc.oneof(
  { weight: 14, arbitrary: fc.nat(LARGE - 1) },
  { weight: 1, arbitrary: fc.constant(LARGE) },
  { weight: 1, arbitrary: fc.constant('proc' as const) },
  { weight: 2, arbitrary: fc.constant('own' as const) },
);

const range: fc.Arbitrary<Range> = fc.record(
  {
    file,
    as: fc.constantFrom('path', 'URL', 'fd', 'FileHandle', 'fd, closed at once'),
    offset: fc.oneof({ weight: 2, arbitrary: fc.constant(0) }, { weight: 1, arbitrary: size }),
    length: size,
  },
  { requiredKeys: ['file', 'as', 'offset'] },
);

const asked = {
  backend: fc.constantFrom('auto', 'auto', 'stream') as fc.Arbitrary<'auto' | 'stream'>,
  abort: fc.oneof(
    { weight: 6, arbitrary: fc.constant(undefined) },
    { weight: 3, arbitrary: fc.constant('later' as const) },
    { weight: 1, arbitrary: fc.constantFrom('at once' as const, 'before' as const) },
  ),
  end: fc.oneof(
    { weight: 14, arbitrary: fc.constant(undefined) },
    { weight: 1, arbitrary: fc.constant(true) },
  ),
  progress: fc.oneof(
    { weight: 5, arbitrary: fc.constant(undefined) },
    { weight: 1, arbitrary: fc.constant(true) },
  ),
  late: fc.oneof(
    { weight: 3, arbitrary: fc.constant(undefined) },
    { weight: 1, arbitrary: fc.constant(true) },
  ),
};

const index = fc.nat(5);
const often = <T>(weight: number, arbitrary: fc.Arbitrary<T>) => ({ weight, arbitrary });
const op = <Name extends Operation['op']>(name: Name) => fc.constant(name);

const part: fc.Arbitrary<Part> = fc.oneof(range, fc.record({ memory: sizeInMemory }));

const operation: fc.Arbitrary<Operation> = fc.oneof<fc.MaybeWeightedArbitrary<Operation>[]>(
  often(
    14,
    fc.record({
      op: op('write'),
      lane: index,
      size: sizeInMemory,
      as: fc.constantFrom('bytes' as const, 'bytes' as const, 'latin1' as const),
    }),
  ),
  often(16, fc.record({ op: op('send'), lane: index, from: range, ...asked })),
  often(
    7,
    fc.record({
      op: op('gather'),
      lane: index,
      parts: fc.array(part, { maxLength: 5 }),
      ...asked,
    }),
  ),
  often(
    14,
    fc.record({
      op: op('take'),
      lane: index,
      source: index,
      length: fc.oneof(
        { weight: 5, arbitrary: size },
        { weight: 1, arbitrary: fc.constant(undefined) },
      ),
      ...asked,
    }),
  ),
  often(12, fc.record({ op: op('feed'), lane: index, size: sizeInMemory })),
  often(5, fc.record({ op: op('read'), lane: index, size })),
  often(6, fc.record({ op: op('abort'), transfer: index })),
  often(
    8,
    fc.record({
      op: op('flow'),
      lane: index,
      how: fc.oneof(fc.constantFrom('pause' as const, 'resume' as const), size),
    }),
  ),
  often(
    9,
    fc.record(
      {
        op: op('pipe'),
        lane: index,
        from: range,
        end: fc.oneof(often(8, fc.constant(false)), often(1, fc.constant(true))),
        highWaterMark: fc.constantFrom(1000, 16 * KIB, 200_000),
      },
      { requiredKeys: ['op', 'lane', 'from', 'end'] },
    ),
  ),
  often(10, fc.record({ op: op('meddle'), pipe: index, how: fc.constantFrom(...meddlings) })),
  often(
    2,
    fc.record({
      op: op('relay'),
      lane: index,
      other: index,
      backend: fc.constantFrom('auto', 'auto', 'stream'),
      signal: fc.boolean(),
    }),
  ),
  often(
    1,
    fc.record({
      op: op('timeout'),
      lane: index,
      ms: fc.integer({ min: 2, max: 25 }),
      destroys: fc.boolean(),
    }),
  ),
  often(
    2,
    fc.record({
      op: op('truncate'),
      size: fc.oneof(size, fc.integer({ min: 100_000, max: OWN_BYTES })),
    }),
  ),
  often(4, fc.record({ op: op('cork'), lane: index })),
  often(4, fc.record({ op: op('uncork'), lane: index })),
  often(1, fc.record({ op: op('no delay'), lane: index, on: fc.boolean() })),
  often(3, fc.record({ op: op('count'), lane: index })),
  often(3, fc.record({ op: op('settle'), transfer: index })),
  often(1, fc.record({ op: op('end'), lane: index })),
  often(1, fc.record({ op: op('end of feed'), lane: index })),
  often(
    3,
    fc.record({
      op: op('destroy'),
      lane: index,
      end: fc.constantFrom('sink' as const, 'peer' as const),
      how: fc.constantFrom('plain' as const, 'error' as const, 'reset' as const),
    }),
  ),
  often(8, fc.record({ op: op('turns'), count: fc.integer({ min: 1, max: 8 }) })),
  often(1, fc.record({ op: op('wait'), ms: fc.integer({ min: 1, max: 4 }) })),
);

const duplexLane = (kinds: DuplexKind[]): fc.Arbitrary<DuplexLane> =>
  fc.record({
    kind: fc.constantFrom(...kinds),
    near: fc.constantFrom('accepted', 'connected'),
    narrow: fc.boolean(),
    reading: fc.boolean(),
  });

export const anyDuplexLane = duplexLane([
  'tcp',
  'unix',
  'tcp',
  'unix',
  'pipe',
  'pipe',
  'passthrough',
  'tls',
]);

export const fileLane: fc.Arbitrary<FileLane> = fc.record({
  kind: fc.constantFrom(...fileKinds),
  to: fc.constantFrom('offset', 'position', 'append', 'anew'),
});

export const httpLane: fc.Arbitrary<HttpLane> = fc.record({
  kind: fc.constant('http'),
  over: fc.constantFrom('tcp', 'unix'),
  narrow: fc.boolean(),
  reading: fc.boolean(),
  responses: fc.array(fc.constantFrom(...framings), { minLength: 1, maxLength: 3 }),
});

/** Programs with up to three lanes, the first of which is one of `first`, and others of `others`. */
export const programs = (
  first: fc.Arbitrary<Lane>,
  others: fc.Arbitrary<Lane>,
): fc.Arbitrary<Program> =>
  fc.record({
    lanes: fc
      .tuple(first, fc.array(others, { maxLength: 2 }))
      .map(([lane, rest]) => [lane, ...rest]),
    operations: fc.array(operation, { minLength: 1, maxLength: 36, size: 'max' }),
  });
