export interface Target {
  /** As `process.arch`. */
  arch: string;
  libc: 'glibc' | 'musl';
  /** Zig's. */
  triple: string;
  /** ELF's e_machine. */
  machine: number;
  /** Where prebuildify puts it, and node-gyp-build finds it. */
  file: string;
}

export const TARGETS: Record<string, Target>;
export function targetHere(): Target;
