// vitest's global setup, for what the random programs of all test files have done.
import { collect } from './coverage';

export function setup(): void {
  collect(); // of a run that came to no end
}

export function teardown(): void {
  const coverage = collect();
  if (coverage) console.log(coverage.summary());
}
