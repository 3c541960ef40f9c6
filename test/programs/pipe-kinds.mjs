// pipe-kinds.mjs FILE: sends it to stdout, and tells on stderr what kinds of ends a trace has.
import { tracingChannel } from 'node:diagnostics_channel';
import { transfer } from 'zerocopy';

const [, , file] = process.argv;
tracingChannel('zerocopy:transfer').start.subscribe(({ sourceKind, sinkKind }) =>
  console.error(JSON.stringify({ sourceKind, sinkKind })),
);
await transfer(file, process.stdout);
