// An app whose fs.open, fs.read and fs.close know a file in memory, in the place of the one given;
// put there before register, or after it, as the second argument says.
const fs = require('node:fs');
const [, , file, order] = process.argv;

const IN_MEMORY = 1_000_000;
const content = Buffer.from('from memory');
let position = 0;

function patch() {
  const { open, read, close } = fs;
  fs.open = (path, ...args) => {
    if (path === file) process.nextTick(args.at(-1), null, IN_MEMORY);
    else open(path, ...args);
  };
  fs.read = (fd, buffer, offset, length, at, callback) => {
    if (fd !== IN_MEMORY) return read(fd, buffer, offset, length, at, callback);
    const from = at ?? position;
    const bytes = content.copy(buffer, offset, from, from + length);
    position = from + bytes;
    process.nextTick(callback, null, bytes, buffer);
  };
  fs.close = (fd, callback) => {
    if (fd === IN_MEMORY) process.nextTick(callback, null);
    else close(fd, callback);
  };
}

async function main() {
  if (order === 'before') patch();
  require('zerocopy/register');
  if (order === 'after') patch();
  const { serve } = await import('./serving.mjs');
  console.log(JSON.stringify(await serve(() => fs.createReadStream(file))));
}
main();
