// The descriptors of Node's sockets.
//
// What Node does not document of handles is touched here: `_handle`, `fd`, the names of their
// classes; and `reading`, `readStop` for socket-source.ts.
import * as fs from 'node:fs';
import type * as net from 'node:net';
import { systemError } from './errors';
import { because } from './fallback';
import { addon, type Endpoint } from './native';
import type { Fallback } from './options';

interface Handle {
  fd?: number;
  reading?: boolean;
  readStop?(): number;
  constructor: { name: string };
}

export function handleOf(socket: net.Socket): Handle | null {
  return (socket as unknown as { _handle?: Handle | null })._handle ?? null;
}

/** Whether it is a TCP or Unix socket, or a pipe: something of the kernel's own. */
export function isKernelHandle(handle: Handle): boolean {
  const { name } = handle.constructor;
  return name === 'TCP' || name === 'Pipe';
}

/** Whether it is a pipe, and no Unix socket: asked without native code, and whatever fs is by now. */
export function isPipe(handle: Handle): boolean {
  const { fd = -1 } = handle;
  if (handle.constructor.name !== 'Pipe' || fd < 0) return false;
  try {
    return fs.fstatSync(fd).isFIFO();
  } catch {
    return false;
  }
}

/** Of handles that are known not to block. */
const kinds = new WeakMap<Handle, Endpoint['kind']>();

/**
 * What native code may read from or write to; or why it can't. Asked for anew each time: a tick ago
 * the number may have been another file's.
 */
export function endpointOf(socket: net.Socket, role: 'source' | 'sink'): Endpoint | Fallback {
  const { native } = addon;
  const handle = handleOf(socket);
  const fd = handle?.fd ?? -1;
  if (!native || handle === null || !isKernelHandle(handle) || fd < 0) return noHandle(role);
  let kind = kinds.get(handle);
  if (kind === undefined) {
    if (native.mayBlock(fd)) return blocking(role);
    kind = 'socket';
    if (handle.constructor.name === 'Pipe') {
      const facts = native.inspect(fd);
      if (facts.fd < 0) return because('UNSUPPORTED', systemError(-facts.fd, 'statx').message);
      if (facts.kind === 'fifo') kind = 'pipe';
    }
    kinds.set(handle, kind);
  }
  return { fd, kind };
}

export function noHandle(role: 'source' | 'sink'): Fallback {
  const code = role === 'source' ? 'SOURCE_HANDLE' : 'SINK_HANDLE';
  return because(code, `the ${role} has no TCP or Unix socket and no pipe of its own`);
}

function blocking(role: 'source' | 'sink'): Fallback {
  const code = role === 'source' ? 'SOURCE_BLOCKING' : 'SINK_BLOCKING';
  return because(code, `the ${role} is in blocking mode`);
}
