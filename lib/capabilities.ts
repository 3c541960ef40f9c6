import * as os from 'node:os';
import { addon } from './native';

export interface Capabilities {
  /** Whether the addon is loaded, so that transfers can go through the kernel. */
  native: boolean;
  /** Why it is not. */
  reason?: string;
  /** Whether the kernel, and a seccomp profile if there is one, offers sendfile(2). */
  sendfile: boolean;
  /** The same of splice(2). */
  splice: boolean;
  /** The same of copy_file_range(2). */
  copyFileRange: boolean;
  /** Release of the kernel, as `uname -r` prints it. */
  kernel: string;
  /** Native threads that move bytes, started with the first transfer; 0 without the addon. */
  movers: number;
}

/** Tells what this process can do, and if it can do nothing natively, why. */
export function capabilities(): Capabilities {
  const { native } = addon;
  return {
    native: native !== undefined,
    ...(addon.native === undefined && { reason: addon.reason }),
    sendfile: native?.supports('sendfile') ?? false,
    splice: native?.supports('splice') ?? false,
    copyFileRange: native?.supports('copyFileRange') ?? false,
    kernel: os.release(),
    movers: native?.movers ?? 0,
  };
}
