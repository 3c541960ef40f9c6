const { transfer } = require('zerocopy');
const { exchange } = require('./exchange.cjs');

for (const time of ['first', 'second']) {
  test(`in a sandbox of Jest's, the ${time} time`, async () => {
    expect(await exchange(transfer)).toBe(process.env.EXPECTED);
  });
}
