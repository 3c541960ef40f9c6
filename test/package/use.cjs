const { transfer } = require('zerocopy');
const { exchange } = require('./exchange.cjs');

exchange(transfer).then(console.log);
