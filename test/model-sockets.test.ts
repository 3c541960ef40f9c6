// Random programs of transfers, and of all that may happen around them, on sockets, pipes and files.
import * as fc from 'fast-check';
import { test } from 'vitest';
import { anyDuplexLane, fileLane, programs } from './model/arbitrary';
import { onSockets } from './model/expected';
import { holds } from './model/property';

test('sockets and files', { timeout: 3_600_000 }, async () => {
  const lanes = programs(anyDuplexLane, fc.oneof(anyDuplexLane, fileLane));
  await holds('sockets', lanes, 0.6, onSockets);
});
