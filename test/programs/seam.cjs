// Required before a program: it gets the addon whose system calls fail on demand.
const path = require('node:path');

const addon =
  process.env.ZEROCOPY_SEAM ?? path.resolve('test/support/build/Release/zerocopy_seam.node');
require('node-gyp-build').path = () => addon;
globalThis.seam = require(addon);
