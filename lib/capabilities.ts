import * as os from 'node:os';
import { systemError } from './errors';
import { addon, type Completion } from './native';

export interface Capabilities {
  /** Whether the addon is loaded, so that transfers can go through the kernel. */
  native: boolean;
  /** Why it is not; or, while `movers` is 0, which call failed that they need. */
  reason?: string;
  /** Whether the kernel, and a seccomp profile if there is one, offers sendfile(2). */
  sendfile: boolean;
  /** The same of splice(2). */
  splice: boolean;
  /** The same of copy_file_range(2). */
  copyFileRange: boolean;
  /** Release of the kernel, as `uname -r` prints it. */
  kernel: string;
  /**
   * Native threads that move bytes, started with the first transfer that needs them; 0 without the
   * addon. Also 0 from a transfer on for which none could be started: the rest goes by streams then.
   * Each transfer tries again, and with the first that succeeds this is their number.
   */
  movers: number;
}

/** Tells what this process can do, and if it can do nothing natively, why. */
export function capabilities(): Capabilities {
  const { native } = addon;
  const movers = native?.movers();
  const reason = addon.native ? messageOf(movers?.failure) : addon.reason;
  return {
    native: native !== undefined,
    ...(reason !== undefined && { reason }),
    sendfile: native?.supports('sendfile') ?? false,
    splice: native?.supports('splice') ?? false,
    copyFileRange: native?.supports('copyFileRange') ?? false,
    kernel: os.release(),
    movers: movers?.count ?? 0,
  };
}

function messageOf(failure: Completion | undefined): string | undefined {
  return failure && systemError(failure.errno, failure.call).message;
}
