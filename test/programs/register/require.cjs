require('zerocopy/register');
import('./none.mjs');
