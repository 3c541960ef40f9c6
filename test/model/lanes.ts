// Makes the ends that a program asks for.
import * as fs from 'node:fs';
import { open } from 'node:fs/promises';
import type * as http from 'node:http';
import * as net from 'node:net';
import * as path from 'node:path';
import { PassThrough, type Writable } from 'node:stream';
import { scratchFolder } from '../helpers/files';
import { connectTo, get, serve } from '../helpers/http';
import { until } from '../helpers/process';
import { connection, NARROW_BYTES } from '../helpers/relay';
import { onTestFinished } from '../helpers/scope';
import { shrink } from '../helpers/sockets';
import { pipeEnds } from '../helpers/sources';
import { secureLink } from '../helpers/tls';
import { FileTarget, Inlet, Outlet, Reader } from './ends';
import {
  type DuplexLane,
  type FileLane,
  type HttpLane,
  isDuplex,
  isFile,
  type Lane,
} from './program';

/** Two ends that write to each other. */
export interface OpenDuplex {
  spec: DuplexLane;
  outlet: Outlet;
  inlet: Inlet;
  /** Closes the far end, in one of the ways. */
  closePeer(how: 'plain' | 'error' | 'reset'): void;
  /** Whether near sink and source are one. */
  isOne: boolean;
}

export interface OpenHttp {
  spec: HttpLane;
  outlets: Outlet[];
  reader: Reader;
  client: net.Socket;
  /** The server's end. */
  socket: net.Socket;
}

export type OpenLane = OpenDuplex | OpenHttp | FileTarget;

/** `promised`: of each response, the bytes that it will have. */
export function openLane(lane: Lane, promised: number[]): Promise<OpenLane> | OpenLane {
  if (isDuplex(lane)) return openDuplex(lane);
  if (isFile(lane)) return openFile(lane);
  return openHttp(lane, promised);
}

const quotaOf = ({ reading }: { reading: boolean }) => (reading ? Number.POSITIVE_INFINITY : 0);

async function openDuplex(spec: DuplexLane): Promise<OpenDuplex> {
  const { kind } = spec;
  if (kind === 'pipe') {
    const [out, back] = [pipeEnds(), pipeEnds()];
    const reader = new Reader(out.source, quotaOf(spec));
    const closePeer = () => {
      out.source.destroy();
      back.writer.destroy();
    };
    const outlet = new Outlet(kind, kind, out.writer, out.writer, reader);
    const inlet = new Inlet(kind, back.source, back.writer);
    return { spec, outlet, inlet, closePeer, isOne: false };
  }
  if (kind === 'passthrough') {
    const [out, back] = [new PassThrough(), new PassThrough()];
    for (const stream of [out, back]) onTestFinished(() => stream.destroy());
    const reader = new Reader(out, quotaOf(spec));
    const closePeer = (how: string) => {
      const error = how === 'error' ? new Error('the peer') : undefined;
      out.destroy(error);
      back.destroy(error);
    };
    const outlet = new Outlet(kind, kind, out, undefined, reader);
    const inlet = new Inlet(kind, back, back);
    return { spec, outlet, inlet, closePeer, isOne: false };
  }
  const [near, far] = await socketsOf(spec);
  for (const socket of [near, far]) socket.allowHalfOpen = true;
  const reader = new Reader(far, quotaOf(spec));
  const closePeer = (how: string) => {
    if (how === 'reset') reset(far);
    else far.destroy();
  };
  const socket = kind === 'tls' ? undefined : near;
  const outlet = new Outlet(kind, kind, near, socket, reader);
  return { spec, outlet, inlet: new Inlet(kind, near, far), closePeer, isOne: true };
}

async function socketsOf({ kind, near, narrow }: DuplexLane): Promise<[net.Socket, net.Socket]> {
  if (kind === 'tls') {
    const ends = await secureLink();
    return near === 'connected' ? [ends.near, ends.far] : [ends.far, ends.near];
  }
  const socketKind = kind as 'tcp' | 'unix';
  const { accepted, connected } = await connection(socketKind, {}, onTestFinished);
  if (narrow) shrink({ sink: accepted, peer: connected }, NARROW_BYTES[socketKind]);
  return near === 'accepted' ? [accepted, connected] : [connected, accepted];
}

async function openHttp(spec: HttpLane, promised: number[]): Promise<OpenHttp> {
  const responses: http.ServerResponse[] = [];
  const { server, address } = await serve((_request, response) => responses.push(response), {
    kind: spec.over,
  });
  const buffers = spec.narrow ? NARROW_BYTES[spec.over] : undefined;
  const { sink: socket, peer: client } = await connectTo(server, address, buffers);
  const count = spec.responses.length;
  for (let i = 1; i <= count; i++) client.write(get('/', i === count ? 'Connection: close' : ''));
  await until(() => responses.length === count, 'all requests have arrived');
  server.close();
  const reader = new Reader(client, quotaOf(spec));
  const outlets = spec.responses.map((framing, i) => {
    const response = responses[i] as http.ServerResponse;
    const outlet = new Outlet(framing, 'http', response, undefined, reader);
    if (framing === 'length') {
      outlet.promised = promised[i] ?? 0;
      response.setHeader('Content-Length', outlet.promised);
    }
    return outlet;
  });
  // What breaks one of them off breaks the connection.
  const [first] = outlets as [Outlet];
  for (const outlet of outlets) outlet.causes = first.causes;
  return { spec, outlets, reader, client, socket };
}

async function openFile({ kind, to }: FileLane): Promise<FileTarget> {
  const file = path.join(scratchFolder(), 'target');
  if (kind === 'path') {
    if (to === 'offset') fs.writeFileSync(file, '');
    return new FileTarget(kind, to === 'position' ? 'anew' : to, file, undefined, undefined);
  }
  const mode = to === 'anew' ? 'position' : to;
  const flags = mode === 'append' ? 'a' : 'w';
  if (kind === 'fd') {
    const fd = fs.openSync(file, flags);
    onTestFinished(() => fs.closeSync(fd));
    return new FileTarget(kind, mode, file, fd, undefined);
  }
  const handle = await open(file, flags);
  onTestFinished(() => handle.close());
  return new FileTarget(kind, mode, file, undefined, handle);
}

/** Since Node 24 a response that is destroyed before its turn leaves its connection open, for good. */
export function closeAtItsTurn(response: Writable): void {
  response.once('socket', (socket: net.Socket) => socket.destroy());
}

/** Resets a connection, where it is one of TCP; as relay() does. */
export function reset(stream: Writable): void {
  const isTcp = stream instanceof net.Socket && stream.remoteAddress !== undefined;
  // Node never closes what is reset while it is being shut down.
  const isEnding = stream.writableEnded && !stream.writableFinished;
  if (isTcp && !isEnding && !('encrypted' in stream)) stream.resetAndDestroy();
  else stream.destroy();
}
