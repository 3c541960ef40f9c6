// mock-fs and register, loaded in the order given; what is served before, during and after a mock.
const fs = require('node:fs');
const path = require('node:path');
const [, , file, addons, order] = process.argv;

const library = path.resolve(__dirname, '../../..');
let mock;
const config = () => {
  const real = {};
  for (const name of ['package.json', 'dist', addons, 'node_modules/node-gyp-build']) {
    real[path.resolve(library, name)] = mock.load(path.resolve(library, name));
  }
  return {
    ...real,
    [file]: 'mocked',
    '/mocked/short': 'only mocked',
    '/mocked/long': 'm'.repeat(300_000),
  };
};
const steps = {
  register: () => require('zerocopy/register'),
  load: () => {
    mock = require('mock-fs');
  },
  mock: () => mock(config()),
};

async function main() {
  const { serve, sha256 } = await import('./serving.mjs');
  // So that made up descriptors are numbers of real ones, of another file.
  const others = Array.from({ length: 40 }, () => fs.openSync(__filename));
  for (const step of order.split(',')) steps[step]();
  const of = (name, options) => serve(() => fs.createReadStream(name, options));
  const told = {};
  told.before = order.includes('mock') ? undefined : await of(file);
  if (!order.includes('mock')) steps.mock();
  told.mocked = await of(file);
  told.short = await of('/mocked/short');
  told.range = await of('/mocked/short', { start: 5, end: 7 });
  told.long = await of('/mocked/long');
  told.missing = await of('/mocked/missing');
  told.descriptor = await of('', { fd: fs.openSync('/mocked/short') });
  mock.restore();
  told.after = await of(file);
  told.gone = await of('/mocked/short');
  for (const fd of others) fs.closeSync(fd);
  console.log(JSON.stringify({ ...told, wanted: sha256('m'.repeat(300_000)) }));
}
main();
