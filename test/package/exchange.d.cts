import type { transfer } from 'zerocopy';

export function exchange(send: typeof transfer): Promise<string>;
