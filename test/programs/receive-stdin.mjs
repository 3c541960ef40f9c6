// Transfers stdin to a file, prints what came of it, and of what followed, its hash.
//   receive-stdin.mjs FILE BACKEND [LENGTH]
import { createHash } from 'node:crypto';
import { transfer } from 'zerocopy';

const [, , target, backend, length] = process.argv;
const options = { backend, ...(length && { length: Number(length) }) };
const result = await transfer(process.stdin, target, options);
if (length) {
  const hash = createHash('sha256');
  for await (const chunk of process.stdin) hash.update(chunk);
  result.rest = hash.digest('hex');
}
console.log(JSON.stringify(result));
