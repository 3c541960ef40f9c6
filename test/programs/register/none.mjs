// Without register, unless an option of Node's brings it.
import { tell } from './tell.mjs';

console.log(JSON.stringify(await tell(process.argv[2])));
