// Copies a file, and prints how that ended.
//   copy.mjs transfer|copyFile SOURCE SINK OPTIONS
import { copyFile, transfer } from 'zerocopy';

const [, , name, source, sink, options] = process.argv;
const copy = name === 'copyFile' ? copyFile : transfer;
const report = await copy(source, sink, JSON.parse(options)).then(
  (result) => ({ result }),
  ({ name, code, syscall, transferred, backend }) => ({
    error: { name, code, syscall, transferred, backend },
  }),
);
console.log(JSON.stringify(report));
