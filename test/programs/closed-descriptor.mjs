// Closes a descriptor right after transferring from it; another file takes its number.
import { closeSync, openSync, readFileSync } from 'node:fs';
import { transfer } from 'zerocopy';
import { connection, receive } from './connection.mjs';

const [, , file, other] = process.argv;
const { sink, peer } = await connection();
const received = receive(peer);
const fd = openSync(file);
const result = transfer(fd, sink, { endSink: true });
closeSync(fd);
if (openSync(other) !== fd) throw new Error('the number was not used anew');
await result;
console.log((await received).equals(readFileSync(file)) ? 'right' : 'wrong');
process.exit();
