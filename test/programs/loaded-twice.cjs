// The package loaded twice in one process: transfers of both at once, and on one socket.
//   loaded-twice.cjs HOW FILE FOLDER
'use strict';

const { once } = require('node:events');
const fs = require('node:fs');
const net = require('node:net');
const path = require('node:path');
const vm = require('node:vm');

const [, , how, file, folder] = process.argv;
const content = fs.readFileSync(file);
const root = path.resolve(__dirname, '../..');

/** A copy of the package, whose binary is the same file, or one of its own. */
function copied(name, copyBinary) {
  const to = path.join(folder, name);
  fs.cpSync(path.join(root, 'dist'), path.join(to, 'dist'), { recursive: true });
  fs.copyFileSync(path.join(root, 'package.json'), path.join(to, 'package.json'));
  const binary = require('node-gyp-build').path(root);
  // Compiled or prebuilt, it is looked for in the same place below the copy.
  const target = path.join(to, path.relative(process.env.ZEROCOPY_PREBUILD ?? root, binary));
  fs.mkdirSync(path.dirname(target), { recursive: true });
  copyBinary(binary, target);
  // Those of the environment, which name another binary, are for the package itself.
  const { ZEROCOPY_PREBUILD } = process.env;
  delete process.env.ZEROCOPY_PREBUILD;
  const library = require(path.join(to, 'dist/index.js'));
  if (ZEROCOPY_PREBUILD !== undefined) process.env.ZEROCOPY_PREBUILD = ZEROCOPY_PREBUILD;
  return library;
}

/** As Jest loads modules: by its own require, in a context of its own, but for binaries. */
function inContext() {
  const names = Object.getOwnPropertyNames(globalThis).filter((name) => /^[a-zA-Z]/.test(name));
  const own = vm.runInNewContext('Object.getOwnPropertyNames(globalThis)');
  // Node.js 26 warns of whoever reads its storages.
  const others = [...own, 'globalThis', 'localStorage', 'sessionStorage'];
  const globals = names.filter((name) => !others.includes(name));
  const context = vm.createContext(
    Object.fromEntries(globals.map((name) => [name, globalThis[name]])),
  );
  const modules = new Map();
  const load = (id) => {
    if (modules.has(id)) return modules.get(id).exports;
    const module = { exports: {} };
    modules.set(id, module);
    const requireHere = (name) =>
      name.startsWith('./') ? load(path.resolve(path.dirname(id), `${name}.js`)) : require(name);
    vm.compileFunction(
      fs.readFileSync(id, 'utf8'),
      ['exports', 'require', 'module', '__filename', '__dirname'],
      { parsingContext: context, filename: id },
    )(module.exports, requireHere, module, id, path.dirname(id));
    return module.exports;
  };
  return load(path.join(root, 'dist/index.js'));
}

const ways = {
  /** As jest.resetModules() does. */
  again: () => {
    const first = require('zerocopy');
    for (const id of Object.keys(require.cache)) {
      if (id.startsWith(path.join(root, 'dist'))) delete require.cache[id];
    }
    return [first, require('zerocopy')];
  },
  'in two contexts': () => [inContext(), inContext()],
  'from two folders, of one binary': () => [copied('a', fs.linkSync), copied('b', fs.linkSync)],
  'from two folders': () => [copied('a', fs.copyFileSync), copied('b', fs.copyFileSync)],
};

/** A socket, and all that its peer gets. */
async function connection(peerSends) {
  const server = net.createServer({ allowHalfOpen: true }).listen(0, '127.0.0.1');
  await once(server, 'listening');
  const socket = net.connect(server.address().port, '127.0.0.1');
  const [[peer]] = await Promise.all([once(server, 'connection'), once(socket, 'connect')]);
  server.close();
  const chunks = [];
  peer.on('data', (chunk) => chunks.push(chunk)).on('end', () => peer.end());
  if (peerSends) peer.end(peerSends);
  const received = once(peer, 'end').then(() => Buffer.concat(chunks));
  return { socket, peer, received };
}

/** Every kind of transfer; resolves with the backends, what they count, and whether all came as it should. */
async function use(library, name) {
  const { transfer, relay, copyFile, createReadStream, sendfile } = library;
  const target = (kind) => path.join(folder, `${name}-${kind}`);
  const isThere = (kind) => fs.readFileSync(target(kind)).equals(content);

  const send = await connection();
  const sent = await transfer(file, send.socket, { endSink: true });
  const stream = await connection();
  const source = createReadStream(file);
  source.pipe(stream.socket);
  await once(source, 'close');
  const receive = await connection(content);
  const received = await transfer(receive.socket, target('received'));
  receive.socket.destroy();
  const a = await connection(content);
  const b = await connection('back');
  const relayed = await relay(a.socket, b.socket);
  const copied = await copyFile(file, target('copied'));
  const [inFd, outFd] = [fs.openSync(file), fs.openSync(target('called'), 'w')];
  const called = await sendfile(outFd, inFd, 0, content.length);
  for (const fd of [inFd, outFd]) fs.closeSync(fd);
  const right = [
    (await send.received).equals(content),
    (await stream.received).equals(content),
    isThere('received'),
    (await b.received).equals(content),
    (await a.received).equals(Buffer.from('back')),
    isThere('copied'),
    called === content.length,
  ];
  const backends = [sent, source, received, relayed, copied].map(({ backend }) => backend);
  return { right, backends, transfers: library.stats().transfers };
}

/** Both write to one socket, in turn, and something else between. At once they would hook it both. */
async function share(libraries) {
  const { socket, received } = await connection();
  const parts = [0, 1, 2, 3, 4, 5].map((i) => content.subarray(i * 100_000, (i + 1) * 100_000));
  for (const [i, part] of parts.entries()) {
    socket.write(`<${i}>`);
    await libraries[i % 2].transfer(file, socket, { offset: i * 100_000, length: part.length });
  }
  socket.end();
  const wanted = Buffer.concat(parts.flatMap((part, i) => [Buffer.from(`<${i}>`), part]));
  return (await received).equals(wanted);
}

async function main() {
  const libraries = ways[how]();
  const different = libraries[0].transfer !== libraries[1].transfer;
  const uses = await Promise.all(libraries.map((library, i) => use(library, `ab`[i])));
  console.log(JSON.stringify({ different, uses, shared: await share(libraries) }));
}

main();
