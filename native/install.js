// npm's install script: takes a prebuilt binary, else compiles one. It never fails the install,
// since everything works without the binary too, by streams; capabilities().reason says so then.
'use strict';

const { spawnSync } = require('node:child_process');

if (process.platform === 'linux') {
  const build = require.resolve('node-gyp-build/bin.js');
  const { status } = spawnSync(process.execPath, [build], { stdio: 'inherit' });
  if (status !== 0) {
    console.error(
      'zerocopy: no binary was built (see above); it will work through streams. ' +
        'Building one needs python3, make and a C++17 compiler.',
    );
  }
}
