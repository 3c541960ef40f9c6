// Streams of one turn, of which the second's 'open' listener throws.
import { createReadStream } from 'zerocopy';

const events = [];
process.on('uncaughtException', ({ message }) => events.push(message));
for (const name of ['first', 'second', 'third']) {
  createReadStream(import.meta.filename)
    .on('open', () => {
      if (name === 'second') throw new Error('thrown');
      events.push(name);
    })
    .resume();
}
process.on('exit', () => console.log(events.join()));
