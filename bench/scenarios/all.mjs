// All scenarios, in the order in which they run.
import * as acceptFiles from './accept-files.mjs';
import * as coldDisk from './cold-disk.mjs';
import * as copyFile from './copy-file.mjs';
import { scenarios as fileSize } from './file-size.mjs';
import { scenarios as http } from './http.mjs';
import * as httpBesideLarge from './http-beside-large.mjs';
import { scenarios as kafkaFetch } from './kafka-fetch.mjs';
import { scenarios as kafkaFetch1Gbit } from './kafka-fetch-1gbit.mjs';
import * as kafkaProduce from './kafka-produce.mjs';
import * as largeFile from './large-file.mjs';
import * as link1Gbit from './link-1gbit.mjs';
import * as manyFiles from './many-files.mjs';
import * as movers from './movers.mjs';
import * as receiveFile from './receive-file.mjs';
import * as relay from './relay.mjs';
import * as relayLatency from './relay-latency.mjs';
import * as slowReaders from './slow-readers.mjs';
import * as syscalls from './syscalls.mjs';

export const scenarios = [
  largeFile,
  manyFiles,
  acceptFiles,
  slowReaders,
  ...http,
  httpBesideLarge,
  ...fileSize,
  relay,
  relayLatency,
  receiveFile,
  copyFile,
  coldDisk,
  movers,
  syscalls,
  link1Gbit,
  ...kafkaFetch,
  ...kafkaFetch1Gbit,
  kafkaProduce,
];
