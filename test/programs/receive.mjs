// Transfers what a connection in this process brings to a file, and prints what came of it: whether
// what was accepted, what came back and what is read afterwards are all that was sent.
//   receive.mjs FILE [--bytes N] [--length N] [--backend B] [--crowded]
// --crowded: as a user whose pipes have used up fs.pipe-user-pages-soft.
import { once } from 'node:events';
import { openSync, readFileSync, readlinkSync, writeFileSync } from 'node:fs';
import { connect, createServer } from 'node:net';
import { parseArgs } from 'node:util';
import { pipeSync, spliceSync, transfer } from 'zerocopy';

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    bytes: { type: 'string', default: '1000000' },
    length: { type: 'string' },
    backend: { type: 'string', default: 'native' },
    crowded: { type: 'boolean', default: false },
  },
});
const [target] = positionals;

const content = Buffer.alloc(Number(values.bytes));
for (let i = 0; i + 4 <= content.length; i += 4) content.writeUInt32LE((i * 2654435761) >>> 0, i);

/** What a new pipe takes, once this user has made as many as he may. */
function crowd() {
  const pages = Number(readFileSync('/proc/sys/fs/pipe-user-pages-soft', 'latin1'));
  for (let used = 0; used <= pages; used += 16) pipeSync();
  const file = `${target}-zeros`;
  writeFileSync(file, Buffer.alloc(1024 * 1024));
  return spliceSync(openSync(file), 0, pipeSync().writeFd, null, 1024 * 1024, 2);
}

const report = {};
if (values.crowded) report.pipeBytes = crowd();

// Not read by Node before the transfer does.
const server = createServer({ pauseOnConnect: true }).listen(0, '127.0.0.1');
await once(server, 'listening');
const writer = connect(server.address().port, '127.0.0.1');
const [source] = await once(server, 'connection');
server.close();
report.inode = /\d+/.exec(readlinkSync(`/proc/self/fd/${source._handle.fd}`))[0];
writer.end(content);

const length = values.length === undefined ? undefined : Number(values.length);
let residual = Buffer.alloc(0);
try {
  Object.assign(report, await transfer(source, target, { backend: values.backend, length }));
} catch (error) {
  const { code, syscall, transferred, backend } = error;
  Object.assign(report, { code, syscall, transferred, backend });
  residual = error.residual ?? residual;
}
report.residual = residual.length;
const chunks = [];
if (!source.readableEnded) for await (const chunk of source) chunks.push(chunk);
const rest = Buffer.concat(chunks);
report.rest = rest.length;
report.whole = Buffer.concat([residual, rest]).equals(content.subarray(report.transferred));
const sunk = readFileSync(target).subarray(0, report.transferred);
report.right = sunk.equals(content.subarray(0, report.transferred));
source.destroy();
console.log(JSON.stringify(report));
