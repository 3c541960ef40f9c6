import 'zerocopy/register';
import './none.mjs';
