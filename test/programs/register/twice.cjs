// Loads register from two copies of the package, in the order given.
const fs = require('node:fs');
const [, , file, ...copies] = process.argv;

async function main() {
  const nodes = fs.createReadStream;
  const found = copies.map((copy) => {
    require(`${copy}/dist/register.js`);
    return fs.createReadStream;
  });
  const { serve } = await import('./serving.mjs');
  const { default: es } = await import('node:fs');
  const served = [await serve(() => fs.createReadStream(file))];
  for (const copy of copies) {
    served.push(await serve(() => require(copy).createReadStream(file)));
  }
  const { createReadStream: ofFirst } = require(copies[0]);
  const { createReadStream: ofSecond } = require(copies[1]);
  console.log(
    JSON.stringify({
      copies: ofFirst !== ofSecond && ofFirst !== nodes,
      first: [...found, es.createReadStream].every((one) => one === ofFirst),
      served,
    }),
  );
}
main();
