// Runs a transfer of each kind (kinds.mjs), and tells how each went.
//   every-kind.mjs FOLDER [--refuse ERRNO:NAMES]... [--probe NAME]... [--crowded] [--only REGEXP]
//     [--backend B]
// --refuse: system calls that fail from here on (test/support/refuse.h). --probe: with which error one
// fails. --crowded: as a user whose pipes have used up fs.pipe-user-pages-soft.
import { closeSync, openSync, readFileSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { getSystemErrorName, parseArgs } from 'node:util';

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    refuse: { type: 'string', multiple: true, default: [] },
    probe: { type: 'string', multiple: true, default: [] },
    only: { type: 'string', default: '' },
    crowded: { type: 'boolean', default: false },
    backend: { type: 'string', default: 'auto' },
  },
});
const [folder] = positionals;
const { refuse, errnoOf } = createRequire(import.meta.url)('../support/build/Release/support.node');
for (const rule of values.refuse) refuse(...rule.split(':').reverse());

const zerocopy = await import('zerocopy');
const { kinds, settled } = await import('./kinds.mjs');

const report = { uid: process.getuid(), probes: {}, kinds: {} };
for (const name of values.probe) report.probes[name] = getSystemErrorName(-errnoOf(name));
if (values.crowded) report.pipeBytes = crowd();
for (const [name, run] of Object.entries(kinds)) {
  if (name.match(values.only)) report.kinds[name] = await run(folder, { backend: values.backend });
}
report.calls = await bareCalls();
report.capabilities = zerocopy.capabilities();
console.log(JSON.stringify(report));

/** What a new pipe takes, once this user has made as many as he may. */
function crowd() {
  const pages = Number(readFileSync('/proc/sys/fs/pipe-user-pages-soft', 'latin1'));
  for (let used = 0; used <= pages; used += 16) zerocopy.pipeSync();
  const file = join(folder, 'zeros');
  writeFileSync(file, Buffer.alloc(1024 * 1024));
  return zerocopy.spliceSync(openSync(file), 0, zerocopy.pipeSync().writeFd, null, 1024 * 1024, 2);
}

/** What each bare call moves of ten bytes, or the error that it has. */
async function bareCalls() {
  const file = join(folder, 'ten');
  writeFileSync(file, '0123456789');
  const fd = openSync(file, 'r+');
  const { readFd, writeFd } = await settled(zerocopy.pipe());
  const results = {
    sendfile: await settled(zerocopy.sendfile(writeFd ?? fd, fd, 0, 10)),
    splice: await settled(zerocopy.splice(fd, 0, writeFd ?? fd, null, 10)),
    copyFileRange: await settled(zerocopy.copyFileRange(fd, 0, fd, 10, 10)),
  };
  for (const end of [fd, readFd, writeFd]) if (end !== undefined) closeSync(end);
  return results;
}
