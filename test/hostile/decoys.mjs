// Files that nobody asks for, opened whenever something else is closed, so that they get its number:
// whoever still reads from that number, or writes to it, does it to them.
import { closeSync, openSync } from 'node:fs';

const MOST_OPEN = 8;

export class Decoys {
  #file;
  /** @type {number[]} */
  #open = [];

  /** @param {string | undefined} file none: there are no decoys */
  constructor(file) {
    this.#file = file;
  }

  takeNumber() {
    if (this.#file === undefined) return;
    this.#open.push(openSync(this.#file, 'r+'));
    if (this.#open.length > MOST_OPEN) closeSync(this.#open.shift());
  }

  close() {
    for (const fd of this.#open.splice(0)) closeSync(fd);
  }
}
