// Random programs of transfers, and of all that may happen around them, on HTTP responses.
import * as fc from 'fast-check';
import { test } from 'vitest';
import { anyDuplexLane, fileLane, httpLane, programs } from './model/arbitrary';
import { onMessages } from './model/expected';
import { holds } from './model/property';

test('HTTP responses', { timeout: 3_600_000 }, async () => {
  const lanes = programs(httpLane, fc.oneof(anyDuplexLane, httpLane, fileLane));
  await holds('http', lanes, 0.4, onMessages);
});
