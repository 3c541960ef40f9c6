// Loads register, serves a file, and then does what is deprecated itself.
require('zerocopy/register');
const { createReadStream } = require('node:fs');

async function main() {
  const { serve } = await import('./serving.mjs');
  console.log(JSON.stringify(await serve(() => createReadStream(process.argv[2]))));
  process.binding('fs');
}
main();
