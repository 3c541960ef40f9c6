// Does with slow disks what it is told to, message by message (test/helpers/cold.ts).
//   cold.mjs SCRATCH HOT_FILE...
import { once } from 'node:events';
import * as fs from 'node:fs';
import * as http from 'node:http';
import * as net from 'node:net';
import * as path from 'node:path';
import { Worker } from 'node:worker_threads';
import * as zerocopy from 'zerocopy';

const { copyFile, createReadStream, pipeSync, transfer } = zerocopy;
const [, , scratch, ...hotFiles] = process.argv;
const UPLOAD_BYTES = 300_000;

const sinks = net.createServer((peer) => peer.resume().on('error', () => {}));
const sources = net.createServer((peer) =>
  peer.on('error', () => {}).end(Buffer.alloc(UPLOAD_BYTES)),
);
for (const server of [sinks, sources]) {
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
}

async function connect(server) {
  const socket = net.connect(server.address().port, '127.0.0.1').on('error', () => {});
  await once(socket, 'connect');
  return socket;
}

const files = new Map();
let made = 0;
const newFile = () => path.join(scratch, `made-${process.pid}-${++made}`);

/** Each has the signal of its job, and returns its end, and the stream that it may be destroyed by. */
const kinds = {
  socket: async (file, options) => {
    const sink = await connect(sinks);
    return { end: transfer(file, sink, options), sink };
  },
  list: async (file, options) => {
    const sink = await connect(sinks);
    return { end: transfer([Buffer.alloc(1000), { file }], sink, options), sink };
  },
  descriptor: async (file, options) => {
    const sink = await connect(sinks);
    return { end: transfer(files.get(file), sink, options), sink };
  },
  tiny: async (file, options) => {
    const sink = await connect(sinks);
    return { end: transfer(files.get(file), sink, { ...options, length: 4096 }), sink };
  },
  pipe: async (file, options) => {
    const { readFd, writeFd } = pipeSync();
    new net.Socket({ fd: readFd }).resume();
    const sink = new net.Socket({ fd: writeFd, readable: false, writable: true });
    return { end: transfer(file, sink, options), sink };
  },
  response: (file, options) =>
    new Promise((resolve) => {
      const server = http.createServer((_, sink) => {
        server.close();
        resolve({ end: transfer(file, sink, options), sink });
      });
      server.listen(0, '127.0.0.1', () => {
        http
          .get({ port: server.address().port, agent: false }, (answer) => answer.resume())
          .on('error', () => {});
      });
    }),
  stream: async (file) => streamOf(createReadStream, file),
  fsStream: async (file) => streamOf(fs.createReadStream, file),
  toFile: async (file, options) => ({ end: transfer(file, newFile(), options) }),
  copyFile: async (file, options) => ({ end: copyFile(file, newFile(), options) }),
  copyTo,
  upload,
  // The same where there is a file already.
  copyOver: copyTo,
  uploadOver: upload,
};

async function copyTo(file, options) {
  return { end: copyFile(hotFiles[0], file, options) };
}

async function upload(file, options) {
  const sink = await connect(sources);
  return { end: transfer(sink, file, options), sink };
}

async function streamOf(create, file) {
  const sink = await connect(sinks);
  const stream = create(file);
  stream.pipe(sink);
  const end = new Promise((resolve, reject) => {
    stream.on('error', reject).on('close', () => {
      const { bytesRead: transferred, backend } = stream;
      resolve({ transferred, backend });
    });
  });
  return { end, sink, stream };
}

const jobs = [];

async function start(kind, file, backend) {
  const controller = new AbortController();
  const job = { abort: () => controller.abort() };
  jobs.push(job);
  const { end, sink, stream } = await kinds[kind](file, { signal: controller.signal, backend });
  if (stream) job.abort = () => stream.destroy();
  job.destroy = () => sink.destroy();
  end.then(
    (result) => {
      job.outcome = result;
    },
    ({ name, code, transferred, message }) => {
      job.outcome = { name, code, transferred, message };
    },
  );
}

const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

const commands = {
  open: (names) => {
    for (const name of names) files.set(name, fs.openSync(name));
  },
  close: () => {
    for (const fd of files.values()) fs.close(fd, () => {});
    files.clear();
  },
  start: (kind, names, backend = 'auto') =>
    Promise.all(names.map((name) => start(kind, name, backend))),
  outcomes: () => jobs.map(({ outcome }) => outcome ?? null),
  abort: () => {
    for (const { abort } of jobs) abort();
  },
  destroy: () => {
    for (const { destroy } of jobs) destroy();
  },
  /** What has nothing to do with a slow disk: each file to a socket, natively. */
  hot: async () => {
    const results = [];
    for (const file of hotFiles) {
      const sink = await connect(sinks);
      results.push(await transfer(file, sink, { backend: 'native', endSink: true }));
    }
    return results;
  },
  /** And from a socket to a file. */
  hotUpload: async () => {
    const file = newFile();
    const { transferred } = await transfer(await connect(sources), file, { backend: 'native' });
    return transferred === UPLOAD_BYTES && fs.statSync(file).size === UPLOAD_BYTES;
  },
  /** Whether the threads of libuv have time for anything else. */
  stat: async () => {
    const asked = fs.promises.stat(scratch);
    return await Promise.race([asked.then(() => true), sleep(300).then(() => false)]);
  },
  /** What of our own is open: without what Node has for itself. */
  descriptors: () =>
    fs.readdirSync('/proc/self/fd').flatMap((fd) => {
      try {
        return [fs.readlinkSync(`/proc/self/fd/${fd}`)];
      } catch {
        return []; // gone since
      }
    }),
  send: async (file, range, backend) => {
    const server = net.createServer();
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
    const accepted = once(server, 'connection');
    const sink = net.connect(server.address().port, '127.0.0.1');
    const [peer] = await accepted;
    server.close();
    const chunks = [];
    peer.on('data', (chunk) => chunks.push(chunk));
    const result = await transfer(file, sink, { ...range, backend, endSink: true });
    await once(peer, 'end');
    return { result, bytes: Buffer.concat(chunks).toString('latin1') };
  },
  read: (file) => fs.promises.readFile(file, 'latin1'),
  copy: async (from, to, backend) => await copyFile(from, to, { backend }),
  /** A worker thread that transfers, and is terminated. */
  worker: async (names) => {
    const worker = new Worker(
      `const { workerData, parentPort } = require('node:worker_threads');
       const net = require('node:net');
       const { transfer } = require('zerocopy');
       const { port, names, folder } = workerData;
       for (const [i, name] of names.entries()) {
         const socket = net.connect(port, '127.0.0.1').on('error', () => {});
         transfer(name, i % 2 ? socket : folder + '/worker-' + i).catch(() => {});
       }
       parentPort.postMessage('started');`,
      { eval: true, workerData: { port: sinks.address().port, names, folder: scratch } },
    );
    await once(worker, 'message');
    commands.terminate = () => worker.terminate();
  },
  end: (way) => {
    if (way === 'exit') process.exit(7);
    if (way === 'throw') throw new Error('uncaught');
    if (way === 'SIGTERM') process.kill(process.pid, 'SIGTERM');
    for (const { abort } of jobs) abort();
    sinks.close();
    sources.close();
    process.disconnect();
    for (const handle of process._getActiveHandles()) handle.destroy?.();
  },
};

process.on('message', async ({ id, name, args }) => {
  try {
    const result = (await commands[name](...args)) ?? null;
    if (name !== 'end') process.send({ id, result });
  } catch (error) {
    if (name === 'end')
      setImmediate(() => {
        throw error;
      });
    else process.send({ id, error: String(error.stack) });
  }
});
process.send('ready');
