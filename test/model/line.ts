// Who may use an end, one after the other: a pipe() has its sink alone, a read its source.
export class Line {
  #holders = 0;
  #waiting: (() => void)[] = [];

  get isFree(): boolean {
    return this.#holders === 0 && this.#waiting.length === 0;
  }

  /** At once, or when whoever holds it, and those who came before, are done. */
  run(then: () => void): void {
    if (this.isFree) then();
    else this.#waiting.push(then);
  }

  hold(): void {
    this.#holders += 1;
  }

  release(): void {
    this.#holders -= 1;
    while (this.#holders === 0 && this.#waiting.length > 0) this.#waiting.shift()?.();
  }
}
