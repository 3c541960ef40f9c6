// graceful-fs and register, loaded in the order given.
const fs = require('node:fs');
const [, , file, order] = process.argv;

const steps = {
  register: () => require('zerocopy/register'),
  load: () => require('graceful-fs'),
  gracefulify: () => require('graceful-fs').gracefulify(fs),
};

async function main() {
  for (const step of order.split(',')) steps[step]();
  const { serve } = await import('./serving.mjs');
  console.log(
    JSON.stringify({
      ofNode: await serve(() => fs.createReadStream(file)),
      graceful: await serve(() => require('graceful-fs').createReadStream(file)),
      range: await serve(() => fs.createReadStream(file, { start: 10, end: 19 })),
      missing: await serve(() => fs.createReadStream(`${file}-missing`)),
    }),
  );
}
main();
