// Topics, and the folders that their partitions are in: TOPIC-PARTITION, as Kafka's.
import { mkdir, readdir } from 'node:fs/promises';
import path from 'node:path';
import { Partition } from './partition.mjs';
import { ErrorCode } from './protocol.mjs';

const MAX_TOPICS = 1000; // as anybody may make them

function isTopicName(name) {
  return /^[\w.-]{1,249}$/.test(name) && name !== '.' && name !== '..';
}

export class Topics {
  #folder;
  #options;
  /** @type {Map<string, Promise<Partition[]>>} */
  #topics = new Map();
  /** @type {Map<string, Partition[]>} */
  #open = new Map();

  constructor(folder, options) {
    this.#folder = folder;
    this.#options = options;
  }

  static async open(folder, options) {
    const topics = new Topics(folder, options);
    await mkdir(folder, { recursive: true });
    const entries = await readdir(folder, { withFileTypes: true });
    const folders = new Set(entries.filter((entry) => entry.isDirectory()).map(({ name }) => name));
    for (const first of folders) {
      const [, name] = /^([\w.-]{1,249})-0$/.exec(first) ?? [];
      if (name === undefined) continue;
      let count = 1;
      while (folders.has(`${name}-${count}`)) count += 1;
      await topics.#openTopic(name, count);
    }
    return topics;
  }

  get names() {
    return [...this.#open.keys()];
  }

  /** @returns {Partition[] | undefined} */
  partitions(name) {
    return this.#open.get(name);
  }

  /** @returns {Partition | undefined} */
  partition(name, index) {
    return this.#open.get(name)?.[index];
  }

  /** Makes a topic, if there is none and `mayCreate`. @returns {Promise<number>} an error code */
  async find(name, mayCreate) {
    if (this.#open.has(name)) return ErrorCode.NONE;
    if (!isTopicName(name)) return ErrorCode.INVALID_TOPIC_EXCEPTION;
    if (!mayCreate) return ErrorCode.UNKNOWN_TOPIC_OR_PARTITION;
    if (!this.#topics.has(name) && this.#topics.size >= MAX_TOPICS)
      return ErrorCode.POLICY_VIOLATION;
    try {
      await this.#openTopic(name, this.#options.partitions);
      return ErrorCode.NONE;
    } catch {
      return ErrorCode.KAFKA_STORAGE_ERROR;
    }
  }

  #openTopic(name, count) {
    const known = this.#topics.get(name);
    if (known) return known;
    const opening = this.#openPartitions(name, count);
    this.#topics.set(name, opening);
    opening.then(
      (partitions) => this.#open.set(name, partitions),
      () => this.#topics.delete(name),
    );
    return opening;
  }

  async #openPartitions(name, count) {
    const partitions = [];
    try {
      while (partitions.length < count) {
        const folder = path.join(this.#folder, `${name}-${partitions.length}`);
        partitions.push(await Partition.open(folder, this.#options));
      }
    } catch (error) {
      await Promise.all(partitions.map((partition) => partition.close()));
      throw error;
    }
    return partitions;
  }

  async close() {
    const all = await Promise.allSettled(this.#topics.values());
    const partitions = all.flatMap(({ value }) => value ?? []);
    await Promise.all(partitions.map((partition) => partition.close()));
  }
}
