// After a module that has imported createReadStream by name.
import { tell } from './tell.mjs';
import 'zerocopy/register';

console.log(JSON.stringify(await tell(process.argv[2])));
