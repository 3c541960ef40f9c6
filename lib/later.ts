// When to tell what was done at once, where fs would have taken its time.

let untold: (() => void)[] = [];

/**
 * As late as fs, so that whoever listens by then still hears of it; and all that were opened in this
 * turn of the event loop together, so that what they then do, they do in step: the sends of many
 * streams follow each other, and their receivers are woken once.
 */
export function tellLater(tell: () => void): void {
  if (untold.push(tell) === 1) setImmediate(tellAll);
}

function tellAll(): void {
  const all = untold;
  untold = [];
  let told = 0;
  try {
    for (const tell of all) {
      told += 1;
      tell();
    }
  } finally {
    // Should one throw, since a listener did, the others are told all the same.
    for (const tell of all.slice(told)) tellLater(tell);
  }
}

const resolved = Promise.resolve();

/**
 * When all that has been waiting for what happens now has run: so that it finds what it does next in
 * time, as with fs, which takes a turn of the event loop to open and to close.
 */
export function afterMicrotasks(then: () => void): void {
  resolved.then(() => process.nextTick(then));
}
