// A server of the files of a directory, over http.Server, until its input ends.
//
//   node serve.mjs '{"way":"zerocopy","directory":"/…"}'
import * as fs from 'node:fs';
import * as http from 'node:http';
import * as path from 'node:path';

const MIB = 1024 * 1024;

const { way, directory } = JSON.parse(process.argv[2]);

const sizes = new Map(
  fs
    .readdirSync(directory)
    .map((name) => [`/${name}`, fs.statSync(path.join(directory, name)).size]),
);
const contents = new Map();

function contentOf(file) {
  if (!contents.has(file)) contents.set(file, fs.readFileSync(file));
  return contents.get(file);
}

/** Sends a file, or a range of it, as the body. */
const bodies = {
  zerocopy: (file, response, range) => createReadStream(file, range).pipe(response),
  pipe: (file, response, range) => fs.createReadStream(file, range).pipe(response),
  'pipe-1m': (file, response, range) =>
    fs.createReadStream(file, { highWaterMark: MIB, ...range }).pipe(response),
  readfile: async (file, response) => response.end(await fs.promises.readFile(file)),
  memory: (file, response, range) => {
    const content = contentOf(file);
    response.end(range ? content.subarray(range.start, range.end + 1) : content);
  },
};

const { createReadStream } = way === 'zerocopy' ? await import('zerocopy') : fs;

/** A handler as people write it who use no framework. */
function plain(request, response) {
  const size = sizes.get(request.url);
  const asked = /^bytes=(\d+)-(\d+)$/.exec(request.headers.range ?? '');
  const range = asked ? { start: Number(asked[1]), end: Number(asked[2]) } : undefined;
  response.setHeader('Content-Type', 'application/octet-stream');
  if (range) {
    response.statusCode = 206;
    response.setHeader('Content-Range', `bytes ${range.start}-${range.end}/${size}`);
  }
  response.setHeader('Content-Length', range ? range.end - range.start + 1 : size);
  bodies[way](path.join(directory, request.url), response, range);
}

const packages = {
  express: async () => {
    const { default: express } = await import('express');
    return express().use(express.static(directory));
  },
  send: async () => {
    const { default: send } = await import('send');
    const options = { root: directory };
    return (request, response) => send(request, request.url, options).pipe(response);
  },
  sirv: async () => (await import('sirv')).default(directory),
};

const [name] = way.split('-');
const server = http.createServer(way in bodies ? plain : await packages[name]());
server.listen(0, '127.0.0.1', () => {
  console.log(JSON.stringify({ port: server.address().port }));
});
process.stdin.on('end', () => process.exit()).resume();
