import * as fs from 'node:fs';
import { expect } from 'vitest';
import type { TransferResult } from 'zerocopy';
import { scratchRoot } from './files';

/** Every test of what a transfer does runs over both. `'native'` rejects instead of falling back. */
export const backends = ['native', 'stream'] as const;
export type TestedBackend = (typeof backends)[number];

/** Of tmpfs and overlayfs, from statfs(2): they can't tell what is resident (RWF_NOWAIT). */
const SILENT_FILE_SYSTEMS = new Set([0x01021994, 0x794c7630]);

/** How a tiny file goes, which is one read and one write where that can't block. */
export const tinyBackend = SILENT_FILE_SYSTEMS.has(fs.statfsSync(scratchRoot).type)
  ? 'sendfile'
  : 'read';

/** Up to here a native transfer is tiny. */
const READ_WAY_BYTES = 24 * 1024;

/** The result of a transfer that went the way it was asked to. */
export function expectResult(result: TransferResult, backend: TestedBackend, transferred: number) {
  if (backend === 'stream') {
    expect(result).toMatchObject({ transferred, backend, fallback: { code: 'REQUESTED', at: 0 } });
    return;
  }
  const small = transferred > 0 && transferred <= READ_WAY_BYTES;
  expect(result).toEqual({ transferred, backend: small ? tinyBackend : 'sendfile' });
}

/** The sizes at which something changes: pages, chunks, the short way, several steps. */
export const sizes = [
  0,
  1,
  4095,
  4096,
  4097,
  64 * 1024 - 1,
  64 * 1024,
  64 * 1024 + 1,
  128 * 1024 + 16,
  16 * 1024 * 1024 + 3,
];

/** Least that a transfer must have counted when the peer has read `bytes`. */
export const counted = (backend: TestedBackend, bytes: number) =>
  // A stream counts a chunk when all of it has been accepted.
  backend === 'native' ? bytes : bytes - 64 * 1024;
