// The APIs that the broker knows: https://kafka.apache.org/protocol
import {
  array,
  boolean,
  int8,
  int16,
  int32,
  int64,
  nullableArray,
  nullableString,
  records,
  since,
  string,
  struct,
} from './codec.mjs';

export const ErrorCode = {
  NONE: 0,
  OFFSET_OUT_OF_RANGE: 1,
  CORRUPT_MESSAGE: 2,
  UNKNOWN_TOPIC_OR_PARTITION: 3,
  MESSAGE_TOO_LARGE: 10,
  COORDINATOR_NOT_AVAILABLE: 15,
  INVALID_TOPIC_EXCEPTION: 17,
  INVALID_REQUIRED_ACKS: 21,
  UNSUPPORTED_VERSION: 35,
  UNSUPPORTED_FOR_MESSAGE_FORMAT: 43,
  POLICY_VIOLATION: 44,
  KAFKA_STORAGE_ERROR: 56,
  FETCH_SESSION_ID_NOT_FOUND: 70,
  INVALID_RECORD: 87,
};

/** Name of an error code. */
export const nameOf = (code) => Object.keys(ErrorCode).find((name) => ErrorCode[name] === code);

export const REQUEST_HEADER = struct({
  api_key: int16,
  api_version: int16,
  correlation_id: int32,
  client_id: nullableString,
});

/** What most requests are about, and their answers. */
const byTopic = (fields) =>
  array(struct({ name: string, partitions: array(struct({ index: int32, ...fields })) }));

const Produce = {
  key: 0,
  versions: [3, 7],
  // librdkafka compresses only for those who say that they know version 0 (confluentinc/librdkafka#4956).
  offered: [0, 7],
  request: struct({
    transactional_id: nullableString,
    acks: int16,
    timeout_ms: int32,
    topics: byTopic({ records }),
  }),
  response: struct({
    topics: byTopic({
      error_code: int16,
      base_offset: int64,
      log_append_time_ms: int64,
      log_start_offset: since(5, int64),
    }),
    throttle_time_ms: int32,
  }),
};

const Fetch = {
  key: 1,
  versions: [4, 11],
  request: struct({
    replica_id: int32,
    max_wait_ms: int32,
    min_bytes: int32,
    max_bytes: int32,
    isolation_level: int8,
    session_id: since(7, int32),
    session_epoch: since(7, int32),
    topics: byTopic({
      current_leader_epoch: since(9, int32),
      fetch_offset: int64,
      log_start_offset: since(5, int64),
      max_bytes: int32,
    }),
    forgotten_topics: since(7, array(struct({ name: string, partitions: array(int32) }))),
    rack_id: since(11, string),
  }),
  response: struct({
    throttle_time_ms: int32,
    error_code: since(7, int16),
    session_id: since(7, int32),
    topics: byTopic({
      error_code: int16,
      high_watermark: int64,
      last_stable_offset: int64,
      log_start_offset: since(5, int64),
      aborted_transactions: nullableArray(int64), // always null
      preferred_read_replica: since(11, int32),
      records,
    }),
  }),
};

const ListOffsets = {
  key: 2,
  versions: [1, 3],
  request: struct({
    replica_id: int32,
    isolation_level: since(2, int8),
    topics: byTopic({ timestamp: int64 }),
  }),
  response: struct({
    throttle_time_ms: since(2, int32),
    topics: byTopic({ error_code: int16, timestamp: int64, offset: int64 }),
  }),
};

const Metadata = {
  key: 3,
  versions: [0, 5],
  request: struct({
    topics: nullableArray(string),
    allow_auto_topic_creation: since(4, boolean),
  }),
  response: struct({
    throttle_time_ms: since(3, int32),
    brokers: array(
      struct({ node_id: int32, host: string, port: int32, rack: since(1, nullableString) }),
    ),
    cluster_id: since(2, nullableString),
    controller_id: since(1, int32),
    topics: array(
      struct({
        error_code: int16,
        name: string,
        is_internal: since(1, boolean),
        partitions: array(
          struct({
            error_code: int16,
            index: int32,
            leader_id: int32,
            replica_nodes: array(int32),
            isr_nodes: array(int32),
            offline_replicas: since(5, array(int32)),
          }),
        ),
      }),
    ),
  }),
};

// librdkafka takes it as the sign of a broker that knows LZ4.
const FindCoordinator = {
  key: 10,
  versions: [0, 1],
  request: struct({ key: string, key_type: since(1, int8) }),
  response: struct({
    throttle_time_ms: since(1, int32),
    error_code: int16,
    error_message: since(1, nullableString),
    node_id: int32,
    host: string,
    port: int32,
  }),
};

const ApiVersions = {
  key: 18,
  versions: [0, 2],
  request: struct({}),
  response: struct({
    error_code: int16,
    api_keys: array(struct({ key: int16, min: int16, max: int16 })),
    throttle_time_ms: since(1, int32),
  }),
};

const all = { Produce, Fetch, ListOffsets, Metadata, FindCoordinator, ApiVersions };

/** By their keys. */
export const apis = new Map(Object.entries(all).map(([name, api]) => [api.key, { name, ...api }]));
