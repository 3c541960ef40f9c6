#!/usr/bin/env node
// `npx zerocopy`: its commands, flags and exit codes.
import { parseArgs } from 'node:util';
import type { Info } from './info';
import { version } from './version';

const HELP = `Usage: zerocopy info [--json]

Tells what zerocopy can do on this machine, and why not, and tries it: a file to a TCP socket, and a
file to a file in the temporary folder.

  --json         prints one JSON document
  -h, --help     prints this
  -v, --version  prints the version

Exit codes:
  0  bytes go through the kernel
  1  they don't, or not all of them: transfers work by streams, or what was tried failed
  2  bad usage
`;

const ExitCode = { native: 0, notNative: 1, badUsage: 2 } as const;

const OPTIONS = {
  json: { type: 'boolean' },
  help: { type: 'boolean', short: 'h' },
  version: { type: 'boolean', short: 'v' },
} as const;

async function main(): Promise<number> {
  let given: ReturnType<typeof parse>;
  try {
    given = parse();
  } catch (error) {
    // Its first sentence: Node's second is on positionals that begin with a dash.
    return badUsage((error as Error).message.split('. ')[0] as string);
  }
  const { values, positionals } = given;
  const [command, ...rest] = positionals;
  if (values.help) return print(HELP);
  if (values.version) return print(`${version}\n`);
  if (command === undefined) return badUsage('a command is missing');
  if (command !== 'info') return badUsage(`unknown command '${command}'`);
  if (rest.length > 0) return badUsage(`unexpected argument '${rest[0]}'`);

  let info: Info;
  let text: string;
  try {
    const { describe, gatherInfo } = await import('./info.js');
    info = await gatherInfo();
    text = values.json ? `${JSON.stringify(info, undefined, 2)}\n` : describe(info);
  } catch (error) {
    // A binary that can't be loaded, or a variable of ours with a value that isn't one.
    process.stderr.write(`zerocopy: ${(error as Error).message}\n`);
    return ExitCode.notNative;
  }
  print(text);
  return info.native ? ExitCode.native : ExitCode.notNative;
}

const parse = () => parseArgs({ options: OPTIONS, allowPositionals: true });

function print(text: string): number {
  process.stdout.write(text);
  return ExitCode.native;
}

function badUsage(message: string): number {
  process.stderr.write(`zerocopy: ${message}\nTry 'zerocopy --help'.\n`);
  return ExitCode.badUsage;
}

main().then((code) => {
  process.exitCode = code;
});
