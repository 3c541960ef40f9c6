// Why a test is skipped, to be put into its name; empty where it isn't.
import { spawnSync } from 'node:child_process';

export const isRoot = process.getuid?.() === 0;

/** `toDo`: what root is needed for. */
export const whyNotRoot = (toDo: string) => (isRoot ? '' : ` (SKIPPED: needs root, ${toDo})`);

/** `options`: as strace is to be used. */
export function whyNoStrace(...options: string[]): string {
  const { status } = spawnSync('strace', [...options, 'true']);
  return status === 0 ? '' : ' (SKIPPED: strace is missing, or not allowed to trace)';
}
