// Transfers a file while every subscriber of the tracing channel throws; counts what comes of that.
import { tracingChannel } from 'node:diagnostics_channel';
import { PassThrough } from 'node:stream';
import { setImmediate } from 'node:timers/promises';
import { transfer } from 'zerocopy';

let uncaught = 0;
process.on('uncaughtException', () => {
  uncaught += 1;
});
const fail = () => {
  throw new Error('in a subscriber');
};
const events = { start: fail, end: fail, asyncStart: fail, asyncEnd: fail, error: fail };
tracingChannel('zerocopy:transfer').subscribe(events);

const { transferred } = await transfer(process.argv[2], new PassThrough().resume());
await setImmediate();
console.log(JSON.stringify({ transferred, uncaught }));
