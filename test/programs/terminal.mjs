// Transfers a line of its terminal to a socket, and prints what arrived.
import { transfer } from 'zerocopy';
import { connection, receive } from './connection.mjs';

const { sink, peer } = await connection();
const received = receive(peer);
const { backend, fallback } = await transfer('/dev/tty', sink, { length: 6 });
sink.end();
console.log('received', JSON.stringify(String(await received)), backend, fallback.code);
process.exit();
