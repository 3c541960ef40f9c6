// Whether `fs` is what Node made it: native code must not go round somebody's own.
import * as fs from 'node:fs';

interface Binding {
  open?: { name: string };
}

const { open, read, close } = fs;

// mock-fs puts its functions below Node's fs, where descriptors are then made up ones, which name
// other files. Where there is no such binding, there is no such mock either.
const binding = nodesBinding('fs') as Binding | undefined;
const bindingOpen = binding?.open?.name === 'open' ? binding.open : undefined;

/** Whether they were Node's when this was loaded. */
const wereNodesOwn = areOfSource([open, read]);

/** Whether files are opened and read by Node's own functions still. */
export function isNodesOwnFs(): boolean {
  // Not close(), which graceful-fs wraps wherever it is loaded, to hear of it.
  return wereNodesOwn && fs.open === open && fs.read === read && binding?.open === bindingOpen;
}

/** The same of what was given in place of `fs`. */
export function isLikeNodesFs(given: { open?: unknown; read?: unknown; close?: unknown }): boolean {
  const same = given.open === open && given.read === read && given.close === close;
  return same && isNodesOwnFs();
}

function areOfSource(functions: object[]): boolean {
  const source = (nodesBinding('natives') as { fs?: string } | undefined)?.fs;
  return source === undefined || functions.every((own) => source.includes(String(own)));
}

function nodesBinding(name: string): object | undefined {
  // It would warn under --pending-deprecation.
  const { noDeprecation } = process;
  try {
    process.noDeprecation = true;
    return (process as unknown as { binding(name: string): object }).binding(name);
  } catch {
    return undefined;
  } finally {
    if (noDeprecation === undefined) Reflect.deleteProperty(process, 'noDeprecation');
    else process.noDeprecation = noDeprecation;
  }
}
