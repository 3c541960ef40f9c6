// Preloaded after `zerocopy/register`: writes to the file COUNTS names what became of each stream.
const fs = require('node:fs');

const { createReadStream, appendFileSync } = fs;
let text = '';

fs.createReadStream = function (...args) {
  const stream = createReadStream.apply(this, args);
  stream.once('close', () => {
    text += `${stream.backend}\n`;
  });
  return stream;
};

process.once('exit', () => appendFileSync(process.env.COUNTS, text));
