// What the ways are called, and whose they are.

/** @typedef {'zerocopy' | 'node' | 'peer'} Kind */

const ZEROCOPY = {
  transfer: 'transfer()',
  zerocopy: 'createReadStream().pipe() of zerocopy',
  'express-register': 'express.static under register',
  relay: 'relay()',
  copy: 'copyFile()',
  'produce-splice': 'socket to segment by splice',
  'hot-alone': 'transfer(), alone',
  'hot-beside-cold': 'transfer(), beside 64 from a slow disk',
  'hot-beside-hot': 'transfer(), beside resident files, for equal CPU',
  'movers-1': '1 mover',
  'movers-2': '2 movers',
  'movers-3': '3 movers',
  'movers-4': '4 movers',
  'movers-8': '8 movers',
};

/** What else a program on Node.js may do. */
const NODE = {
  pipe: 'createReadStream().pipe()',
  'pipe-64k': 'createReadStream().pipe(), 64 KiB',
  'pipe-256k': 'createReadStream().pipe(), 256 KiB',
  'pipe-1m': 'createReadStream().pipe(), 1 MiB',
  'pipe-4m': 'createReadStream().pipe(), 4 MiB',
  readfile: 'end(await readFile())',
  memory: 'end(buffer), from memory',
  send: 'send',
  sirv: 'sirv',
  express: 'express.static',
  'pipe-both': 'a.pipe(b); b.pipe(a)',
  'pipe-to-file': 'pipe(createWriteStream())',
  'fs-copy': 'fs.promises.copyFile()',
  'produce-memory': 'through memory',
  'pipe-alone': 'createReadStream().pipe(), alone',
  empty: 'end(), no body',
  idle: 'sockets alone',
  'pipe-beside-cold': 'createReadStream().pipe(), beside 64 from a slow disk',
};

const PEERS = {
  'sendfile-c': 'sendfile loop in C',
  java: 'FileChannel.transferTo() in Java',
  nginx: 'nginx',
  bun: 'Bun.file()',
  haproxy: 'HAProxy',
  cp: 'cp',
};

const LABELS = { ...ZEROCOPY, ...NODE, ...PEERS };

/** @param {string} way one that isn't listed goes by its id */
export function labelOf(way) {
  return LABELS[way] ?? way;
}

/** @param {string} way @returns {Kind} */
export function kindOf(way) {
  if (way in ZEROCOPY) return 'zerocopy';
  return way in NODE ? 'node' : 'peer';
}
