import { transfer } from 'zerocopy';
import { exchange } from './exchange.cjs';

exchange(transfer).then(console.log);
