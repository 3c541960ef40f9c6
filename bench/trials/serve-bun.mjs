// The peer in Bun, until its input ends.
import path from 'node:path';

const { directory } = JSON.parse(process.argv[2]);

const server = Bun.serve({
  hostname: '127.0.0.1',
  port: 0,
  fetch: ({ url }) =>
    new Response(Bun.file(path.join(directory, new URL(url).pathname)), {
      headers: { 'Content-Type': 'application/octet-stream' },
    }),
});
console.log(JSON.stringify({ port: server.port }));
process.stdin.on('end', () => process.exit()).resume();
