// Programs under limits: another user, a seccomp profile, less of what there is.
import * as fs from 'node:fs';
import * as path from 'node:path';
import { expect } from 'vitest';
import type { Capabilities, Fallback } from 'zerocopy';
import usual from '../programs/usual-backends.json';
import { tinyBackend } from './backends';
import { scratchFolder } from './files';
import { runNode } from './process';

/** How one kind of transfer went (test/programs/kinds.mjs). */
export interface KindReport {
  transferred: number;
  backend: string;
  fallback?: Fallback;
  error?: { name: string; code: string; syscall?: string; message: string };
  right: boolean;
}

export interface Report {
  uid: number;
  probes: Record<string, string>;
  kinds: Record<string, KindReport>;
  calls: Record<string, number | { error: { code: string; syscall: string } }>;
  capabilities: Capabilities;
  pipeBytes?: number;
}

/** The system call by which each kind goes where nothing is in its way. */
export const usualBackends: Record<string, string> = {
  'tiny file to socket': tinyBackend,
  ...usual,
};

export const backendsOf = (kinds: Report['kinds']) =>
  Object.fromEntries(Object.entries(kinds).map(([name, { backend }]) => [name, backend]));

/** Nothing failed, and nothing arrived that wasn't sent. */
export function expectRight(kinds: Report['kinds']): void {
  const wrong = Object.entries(kinds).filter(([, { right, error }]) => error || !right);
  expect(wrong).toEqual([]);
}

interface Settings {
  wrapper?: string[];
  env?: NodeJS.ProcessEnv;
  execArgv?: string[];
}

/** Runs a program that tells one object, in JSON, and nothing else. */
export async function tell<T>(program: string, args: string[], settings?: Settings): Promise<T> {
  const { code, signal, stdout, stderr } = await runNode(program, args, settings);
  expect({ code, signal, stderr }).toEqual({ code: 0, signal: null, stderr: '' });
  return JSON.parse(stdout);
}

/** Runs a transfer of each kind in a process of its own. */
export function everyKind(args: string[] = [], settings?: Settings): Promise<Report> {
  return tell('every-kind.mjs', [openFolder(), ...args], settings);
}

/** A folder that anybody may write to. */
export function openFolder(): string {
  const folder = scratchFolder();
  fs.chmodSync(folder, 0o777);
  return folder;
}

/** Runs a command as another user, who runs nothing else. */
export function asUser(uid: number): string[] {
  return ['setpriv', `--reuid=${uid}`, `--regid=${uid}`, '--clear-groups'];
}

export const asNobody = asUser(65_534);

let lastUser = 200_000 + (process.pid % 50_000) * 10;

export function freshUser(): number {
  return ++lastUser;
}

/** Runs a command for which system calls fail (test/support/refuse.h). */
export function refusing(error: string, names: readonly string[]): string[] {
  return [path.resolve('test/support/build/Release/refuse'), error, names.join()];
}
