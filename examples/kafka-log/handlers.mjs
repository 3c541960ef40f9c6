// What the broker answers: the table of the API says what, and how it is encoded.
import { fetch } from './fetch.mjs';
import { produce } from './produce.mjs';
import { apis, ErrorCode } from './protocol.mjs';

const NODE_ID = 0;
const NO_NODE = -1;
const END = -1;
const BEGINNING = -2;

export const handlers = {
  Produce: produce,
  Fetch: fetch,
  ListOffsets: listOffsets,
  Metadata: metadata,
  FindCoordinator: findCoordinator,
  ApiVersions: () => listOfApis(ErrorCode.NONE),
};

export const unsupportedVersion = () => listOfApis(ErrorCode.UNSUPPORTED_VERSION);

function listOfApis(error) {
  const keys = Array.from(apis, ([key, { versions, offered: [min, max] = versions }]) => {
    return { key, min, max };
  });
  return { error_code: error, api_keys: keys, throttle_time_ms: 0 };
}

async function metadata({ topics }, request, { socket }, version) {
  // Before version 1 an empty list asks for all.
  const all = request.topics === null || (version === 0 && request.topics.length === 0);
  const { localAddress, localPort } = socket;
  const answers = [];
  for (const name of all ? topics.names : request.topics) {
    const error = await topics.find(name, request.allow_auto_topic_creation ?? true);
    answers.push(topicOf(name, error, topics.partitions(name) ?? []));
  }
  return {
    throttle_time_ms: 0,
    // By what address it reached the broker, the client knows best.
    brokers: [
      { node_id: NODE_ID, host: localAddress.replace(/^::ffff:/, ''), port: localPort, rack: null },
    ],
    cluster_id: 'kafka-log',
    controller_id: NODE_ID,
    topics: answers,
  };
}

function topicOf(name, error, partitions) {
  return {
    error_code: error,
    name,
    is_internal: false,
    partitions: partitions.map((_partition, index) => ({
      error_code: ErrorCode.NONE,
      index,
      leader_id: NODE_ID,
      replica_nodes: [NODE_ID],
      isr_nodes: [NODE_ID],
      offline_replicas: [],
    })),
  };
}

async function listOffsets({ topics }, request) {
  const answers = [];
  for (const { name, partitions } of request.topics) {
    const found = [];
    for (const { index, timestamp } of partitions) {
      found.push({ index, ...(await offsetByTime(topics.partition(name, index), timestamp)) });
    }
    answers.push({ name, partitions: found });
  }
  return { throttle_time_ms: 0, topics: answers };
}

async function offsetByTime(partition, time) {
  const answer = (error, timestamp = -1, offset = -1) => ({ error_code: error, timestamp, offset });
  if (!partition) return answer(ErrorCode.UNKNOWN_TOPIC_OR_PARTITION);
  if (time === END) return answer(ErrorCode.NONE, -1, partition.end);
  if (time === BEGINNING) return answer(ErrorCode.NONE, -1, 0);
  try {
    // As exact as one can be without looking into a batch.
    const { maxTimestamp, baseOffset } = (await partition.findTime(time)) ?? {};
    return answer(ErrorCode.NONE, maxTimestamp, baseOffset);
  } catch {
    return answer(ErrorCode.KAFKA_STORAGE_ERROR);
  }
}

function findCoordinator() {
  return {
    throttle_time_ms: 0,
    error_code: ErrorCode.COORDINATOR_NOT_AVAILABLE,
    error_message: 'There are no groups here',
    node_id: NO_NODE,
    host: '',
    port: NO_NODE,
  };
}
