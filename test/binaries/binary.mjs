// What a prebuilt binary must be: for the machine that its name says, small, stripped, and in need of
// nothing but Node and a C library that is old enough.
import { execFileSync } from 'node:child_process';
import * as fs from 'node:fs';
import { GLIBC } from './targets.mjs';

const OF_NODE = /^(node_api|napi)_/;
const MAX_BYTES = 400 * 1024;
const LIBRARIES = {
  glibc: /^(lib(c|m|pthread|dl|rt)\.so\.\d|ld-linux-.*)$/,
  musl: /^libc\.so$/,
};

/**
 * Throws with all that is wrong with it; else returns a line that describes it.
 * @param {import('./targets.mjs').Target} target
 */
export function checkBinary({ file, libc, machine }) {
  const { size } = fs.statSync(file);
  const needed = readelf('--dynamic', file);
  const libraries = [...needed.matchAll(/\(NEEDED\).*\[(.+)\]/g)].map(([, name]) => name);
  const symbols = symbolsOf(file);
  const exported = symbols.filter(({ isDefined }) => isDefined).map(({ name }) => name);
  const versions = symbols.flatMap(({ version }) => version?.match(/^GLIBC_([\d.]+)$/)?.[1] ?? []);
  const newest = versions.sort(byVersion).at(-1);
  const wrong = [];
  const want = (holds, complaint) => holds || wrong.push(complaint);

  want(fs.readFileSync(file).readUInt16LE(18) === machine, 'is of another processor');
  want(size <= MAX_BYTES, `has ${size} bytes, more than ${MAX_BYTES}`);
  want(!/ \.(symtab|debug_\w+) /.test(readelf('--sections', file)), 'is not stripped');
  want(/FLAGS_1.*NODELETE/.test(needed), 'is not linked with -z nodelete');
  const strange = libraries.filter((name) => !LIBRARIES[libc].test(name));
  want(strange.length === 0, `needs ${strange.join()}`);
  const others = exported.filter((name) => !/^n(ode_)?api_(register_)?module_/.test(name));
  want(others.length === 0, `exports ${others.join()}`);
  want(exported.length > 0, 'exports nothing');
  const foreign = symbols.filter(({ name, isDefined, isWeak, version }) => {
    if (isDefined || isWeak || OF_NODE.test(name)) return false;
    return libc === 'glibc' ? !version?.startsWith('GLIBC_') : version !== undefined;
  });
  want(foreign.length === 0, `needs the symbols ${foreign.map(({ name }) => name).join()}`);
  if (libc === 'glibc') {
    want(newest !== undefined, 'needs no symbol of glibc');
    want(byVersion(newest ?? '0', GLIBC) <= 0, `needs glibc ${newest}, newer than ${GLIBC}`);
  }
  if (wrong.length > 0) throw new Error(`${file}\n  ${wrong.join('\n  ')}`);
  return `${file}: ${size} bytes, ${libc}${newest ? ` ${newest} or later` : ''}, ${libraries.join(' ')}`;
}

/** The functions of Node-API that a binary calls. @param {string} file */
export function neededOfNode(file) {
  return symbolsOf(file).flatMap(({ name, isDefined }) =>
    !isDefined && OF_NODE.test(name) ? [name] : [],
  );
}

/** @param {string} a @param {string} b */
function byVersion(a, b) {
  return a.localeCompare(b, 'en', { numeric: true });
}

/** Those of the dynamic symbol table. @param {string} file */
function symbolsOf(file) {
  // Num: Value Size Type Bind Vis Ndx Name[@VERSION]
  const line = /^ *\d+: \S+ +\S+ \S+ +(\S+) +\S+ +(\S+) (\S+?)(?:@+(\S+))?(?: \(\d+\))?$/gm;
  return [...readelf('--dyn-syms', file).matchAll(line)].map(
    ([, bind, section, name = '', version]) => ({
      name,
      version,
      isWeak: bind === 'WEAK',
      isDefined: section !== 'UND',
    }),
  );
}

/** @param {string} what @param {string} file */
function readelf(what, file) {
  const options = { encoding: 'utf8', env: { ...process.env, LC_ALL: 'C' } };
  return execFileSync('readelf', ['--wide', what, file], options);
}
