// Preloaded after `zerocopy/register`, or without it: keeps what became of each file's stream that
// was read, and tells it over IPC when it is asked, once all of them are closed.
import fs from 'node:fs';
import { syncBuiltinESMExports } from 'node:module';

const { createReadStream } = fs;
let open = 0;
let streams = [];
let asked = false;

function tell() {
  if (!asked || open > 0) return;
  asked = false;
  process.send({ streams });
  streams = [];
}

fs.createReadStream = function (...args) {
  const stream = createReadStream.apply(this, args);
  // Some apps make a stream, and then neither read nor close it.
  stream.once('resume', () => {
    open += 1;
    stream.once('close', () => {
      const { bytesRead, backend, fallback } = stream;
      streams.push({ bytesRead, backend, fallback });
      open -= 1;
      tell();
    });
  });
  return stream;
};
syncBuiltinESMExports();

process.on('message', () => {
  asked = true;
  tell();
});
// It is the server that keeps the process going.
process.channel.unref();
