// Loads the library as configured, transfers the file given, and tells how it went.
import { readFileSync } from 'node:fs';
import { connection, receive } from './connection.mjs';

const { capabilities, sendfile, transfer } = await import(process.env.LIBRARY ?? 'zerocopy');
const [, , file] = process.argv;
const { sink, peer } = await connection();
const received = receive(peer);
const result = await transfer(file, sink).catch(({ code }) => ({ code }));
sink.end();
sink.resume();
const bytes = await received;
const call = await sendfile(1, 0, 0, 0).catch(({ code, errno, syscall }) => ({
  code,
  errno,
  syscall,
}));
const mapped = readFileSync('/proc/self/maps', 'utf8').match(/\/zerocopy\S*\.node$/m) !== null;
const right = result.code === undefined && bytes.equals(readFileSync(file));
console.log(JSON.stringify({ capabilities: capabilities(), ...result, right, mapped, call }));
