// A server of the files of a directory, over http.Server or express, until its input ends.
import * as fs from 'node:fs';
import * as http from 'node:http';
import * as path from 'node:path';

const { way, directory } = JSON.parse(process.argv[2]);

const sizes = new Map(
  fs
    .readdirSync(directory)
    .map((name) => [`/${name}`, fs.statSync(path.join(directory, name)).size]),
);

/** Sends a file as the body. @type {Record<string, (file: string, response: http.ServerResponse) => void>} */
const ways = {
  pipe: (file, response) => fs.createReadStream(file).pipe(response),
  readfile: async (file, response) => response.end(await fs.promises.readFile(file)),
  zerocopy: (file, response) => createReadStream(file).pipe(response),
  memory: (file, response) => response.end(contentOf(file)),
};

const contents = new Map();

function contentOf(file) {
  if (!contents.has(file)) contents.set(file, fs.readFileSync(file));
  return contents.get(file);
}

const { createReadStream } = way === 'zerocopy' ? await import('zerocopy') : fs;

function plain(request, response) {
  response.setHeader('Content-Type', 'application/octet-stream');
  response.setHeader('Content-Length', sizes.get(request.url));
  ways[way](path.join(directory, request.url), response);
}

async function withExpress() {
  const { default: express } = await import('express');
  return express().use(express.static(directory));
}

const server = http.createServer(way in ways ? plain : await withExpress());
server.listen(0, '127.0.0.1', () => {
  console.log(JSON.stringify({ port: server.address().port }));
});
process.stdin.on('end', () => process.exit()).resume();
