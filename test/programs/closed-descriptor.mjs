// Closes a descriptor right after transferring from it; another file takes its number.
import { once } from 'node:events';
import { closeSync, openSync, readFileSync } from 'node:fs';
import { connect, createServer } from 'node:net';
import { transfer } from 'zerocopy';

const [, , file, other] = process.argv;
const server = createServer();
server.listen(0, '127.0.0.1');
await once(server, 'listening');
const sink = connect(server.address().port, '127.0.0.1');
const [peer] = await once(server, 'connection');
const chunks = [];
peer.on('data', (chunk) => chunks.push(chunk));
const fd = openSync(file);
const result = transfer(fd, sink, { endSink: true });
closeSync(fd);
if (openSync(other) !== fd) throw new Error('the number was not used anew');
await result;
await once(peer, 'end');
console.log(Buffer.concat(chunks).equals(readFileSync(file)) ? 'right' : 'wrong');
process.exit();
