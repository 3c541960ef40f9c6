// Ends, in the way of the second argument, when a transfer of a kind has reached a stage.
//   exit.cjs KIND/STAGE WAY PLACE
// KIND 'addon': the binary itself is being loaded.
'use strict';

const { end, reach } = require('./stages.cjs');

const [, , goal, way, place] = process.argv;
const [kind, stage] = goal.split('/');

async function main() {
  const life = await reach(kind, stage, JSON.parse(place));
  // Not by console.log, which may be asynchronous.
  require('node:fs').writeSync(1, 'ready\n');
  end(way, life);
}

if (kind === 'addon') {
  const { dlopen } = process;
  process.dlopen = (...args) => {
    if (stage === 'loading') end(way);
    dlopen.apply(process, args);
    if (stage === 'loaded') end(way);
  };
  require('node:fs').writeSync(1, 'ready\n');
  require('zerocopy');
} else {
  main();
}
