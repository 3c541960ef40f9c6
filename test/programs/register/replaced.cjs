// An app that puts something in memory in the place of createReadStream, after register.
require('zerocopy/register');
const fs = require('node:fs');
const { syncBuiltinESMExports } = require('node:module');
const { Readable } = require('node:stream');

async function main() {
  const inMemory = () => Readable.from([Buffer.from('from memory')]);
  fs.createReadStream = inMemory;
  syncBuiltinESMExports();
  require('zerocopy');
  require('zerocopy/register');
  await import('zerocopy/register');
  const { serve } = await import('./serving.mjs');
  const { createReadStream } = await import('node:fs');
  const [, , file] = process.argv;
  console.log(
    JSON.stringify({
      alone: fs.createReadStream === inMemory && createReadStream === inMemory,
      served: await serve(() => fs.createReadStream(file)),
    }),
  );
}
main();
