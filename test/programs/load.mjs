// Loads the library as configured, transfers the file given, and tells how it went.
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { connect, createServer } from 'node:net';

const { capabilities, sendfile, transfer } = await import(process.env.LIBRARY ?? 'zerocopy');
const [, , file] = process.argv;
const server = createServer();
server.listen(0, '127.0.0.1');
await once(server, 'listening');
const sink = connect(server.address().port, '127.0.0.1');
const [peer] = await once(server, 'connection');
const chunks = [];
peer.on('data', (chunk) => chunks.push(chunk));
const result = await transfer(file, sink, { endSink: true }).catch(({ code }) => ({ code }));
sink.end();
sink.resume();
await once(peer, 'end');
const call = await sendfile(1, 0, 0, 0).catch(({ code }) => code);
const mapped = readFileSync('/proc/self/maps', 'utf8').includes('zerocopy.node');
const right = result.code === undefined && Buffer.concat(chunks).equals(readFileSync(file));
console.log(JSON.stringify({ capabilities: capabilities(), ...result, right, mapped, call }));
peer.end();
server.close();
