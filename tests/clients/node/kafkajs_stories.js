// kafkajs: the same stories on Node.js. gzip is the one codec that it brings by itself.
//
// Started as `node kafkajs_stories.js STORY HOST:PORT`; prints `ok STORY`, or fails with the
// assertion that did not hold.
"use strict";

const assert = require("node:assert/strict");
const { once, EventEmitter } = require("node:events");
const { CompressionTypes, Kafka, logLevel } = require("kafkajs");

const PATIENCE_MS = 40_000;

function clientOf(bootstrap) {
  return new Kafka({ clientId: "kafkajs-stories", brokers: [bootstrap], logLevel: logLevel.WARN });
}

function readings(count) {
  return Array.from({ length: count }, (_, i) => (
    { device: `pump-${i % 7}`, seq: i, celsius: 20.5 + i / 10 }));
}

// A consumer in a group, with what it has seen and been assigned.
class Member extends EventEmitter {
  constructor(kafka, topic, groupId, options = {}) {
    super();
    this.seen = [];
    this.assigned = [];
    this.topic = topic;
    this.runOptions = options.run ?? {};
    this.consumer = kafka.consumer({
      groupId, heartbeatInterval: 300, sessionTimeout: 10_000, ...options.consumer });
    this.consumer.on("consumer.group_join", ({ payload }) => {
      this.assigned = payload.memberAssignment[topic] ?? [];
      this.emit("change");
    });
  }

  async start() {
    await this.consumer.connect();
    await this.consumer.subscribe({ topics: [this.topic], fromBeginning: true });
    await this.consumer.run({
      ...this.runOptions,
      eachMessage: async ({ partition, message }) => {
        this.seen.push({ partition, message });
        this.emit("change");
      },
    });
    return this;
  }

  values() {
    return this.seen.map(({ message }) => JSON.parse(message.value));
  }

  async leave() {
    await this.consumer.disconnect();
  }
}

// Waits until the condition holds; it is looked at whenever one of the members changes.
async function until(what, members, condition) {
  const timeout = AbortSignal.timeout(PATIENCE_MS);
  while (!condition()) {
    try {
      await Promise.any(members.map((m) => once(m, "change", { signal: timeout })));
    } catch {
      assert.fail(`gave up after ${PATIENCE_MS} ms waiting for ${what}`);
    }
  }
}

async function makeTopic(kafka, topic, numPartitions) {
  const admin = kafka.admin();
  await admin.connect();
  await admin.createTopics({
    topics: [{ topic, numPartitions, replicationFactor: 1 }], waitForLeaders: true });
  await admin.disconnect();
}

async function withProducer(kafka, options, use) {
  const producer = kafka.producer({ allowAutoTopicCreation: true, ...options });
  await producer.connect();
  try {
    return await use(producer);
  } finally {
    await producer.disconnect();
  }
}

async function codec(kafka, name, compression) {
  const topic = `codec-${name}`;
  const values = readings(300);
  const acks = await withProducer(kafka, {}, (producer) => producer.send({
    topic, acks: -1, compression,
    messages: values.map((v) => (
      { key: v.device, value: JSON.stringify(v), headers: { unit: "celsius" } })),
  }));
  assert.deepEqual(acks.map((a) => [a.partition, a.errorCode, a.baseOffset]), [[0, 0, "0"]]);
  const member = await new Member(kafka, topic, `readers-${name}`).start();
  await until("300 messages", [member], () => member.seen.length >= 300);
  await member.leave();
  assert.deepEqual(member.values(), values);
  assert.deepEqual(member.seen.map((s) => s.message.key.toString()), values.map((v) => v.device));
  assert.deepEqual(member.seen.map((s) => s.message.offset), values.map((_, i) => String(i)));
  assert(member.seen.every((s) => s.message.headers.unit.toString() === "celsius"));
}

async function idempotent(kafka) {
  await makeTopic(kafka, "once", 3);
  const values = readings(500);
  await withProducer(kafka, { idempotent: true, maxInFlightRequests: 1 }, async (producer) => {
    for (let first = 0; first < values.length; first += 50) {
      const messages = values.slice(first, first + 50)
        .map((v) => ({ key: v.device, value: JSON.stringify(v) }));
      const acks = await producer.send({ topic: "once", acks: -1, messages });
      assert(acks.every((a) => a.errorCode === 0 && Number(a.baseOffset) >= 0));
    }
  });
  const member = await new Member(kafka, "once", "once-readers").start();
  await until("500 messages", [member], () => member.seen.length >= 500);
  await member.leave();
  const sequences = member.values().map((v) => v.seq).sort((a, b) => a - b);
  assert.deepEqual(sequences, values.map((v) => v.seq));
  for (const device of new Set(values.map((v) => v.device))) {
    const own = member.values().filter((v) => v.device === device).map((v) => v.seq);
    assert.deepEqual(own, [...own].sort((a, b) => a - b), `order of ${device}`);
  }
}

async function sendNumbers(kafka, topic, first, count, partitionOf) {
  const messages = Array.from({ length: count }, (_, i) => (
    { value: String(first + i), partition: partitionOf?.(first + i) }));
  await withProducer(kafka, {}, (producer) => producer.send({ topic, messages }));
}

function range(first, end) {
  return Array.from({ length: end - first }, (_, i) => first + i);
}

async function groupAutoCommit(kafka) {
  await sendNumbers(kafka, "auto", 0, 20);
  const first = await new Member(kafka, "auto", "auto-group").start();
  await until("20 messages", [first], () => first.seen.length >= 20);
  await first.leave();
  assert.deepEqual(first.values(), range(0, 20));
  await sendNumbers(kafka, "auto", 20, 10);
  const second = await new Member(kafka, "auto", "auto-group").start();
  await until("10 messages", [second], () => second.seen.length >= 10);
  await second.leave();
  assert.deepEqual(second.values(), range(20, 30));
}

async function groupManualCommit(kafka) {
  await sendNumbers(kafka, "manual", 0, 10);
  const manual = { run: { autoCommit: false } };
  const first = await new Member(kafka, "manual", "manual-group", manual).start();
  await until("8 messages", [first], () => first.seen.length >= 8);
  await first.consumer.commitOffsets([
    { topic: "manual", partition: 0, offset: "5", metadata: "half way" }]);
  await first.leave();
  const admin = kafka.admin();
  await admin.connect();
  const committed = await admin.fetchOffsets({ groupId: "manual-group", topics: ["manual"] });
  await admin.disconnect();
  assert.deepEqual(committed, [
    { topic: "manual", partitions: [{ partition: 0, offset: "5", metadata: "half way" }] }]);
  const second = await new Member(kafka, "manual", "manual-group", manual).start();
  await until("5 messages", [second], () => second.seen.length >= 5);
  await second.leave();
  assert.deepEqual(second.values(), range(5, 10));
}

async function rebalance(kafka) {
  await makeTopic(kafka, "shared", 4);
  const [one, two] = await Promise.all([0, 1].map(
    () => new Member(kafka, "shared", "sharers").start()));
  const both = [one, two];
  await until("two partitions each", both, () => both.every((m) => m.assigned.length === 2));
  assert.deepEqual([...one.assigned, ...two.assigned].sort(), [0, 1, 2, 3]);
  await sendNumbers(kafka, "shared", 0, 200, (v) => v % 4);
  await until("200 messages", both, () => one.seen.length + two.seen.length >= 200);
  assert(one.seen.length > 0 && two.seen.length > 0, "both members were given something");
  await two.leave();
  await until("all four for the one who stays", [one], () => one.assigned.length === 4);
  await sendNumbers(kafka, "shared", 200, 200, (v) => v % 4);
  await until("400 messages", [one], () => one.seen.length + two.seen.length >= 400);
  await one.leave();
  const values = [...one.values(), ...two.values()].sort((a, b) => a - b);
  assert.deepEqual(values, range(0, 400));
}

async function transactions(kafka) {
  const client = kafka.admin();
  await client.connect();
  await client.createTopics({ topics: [{ topic: "ledger", numPartitions: 1 }] });
  const producer = kafka.producer({
    transactionalId: "tutorial", maxInFlightRequests: 1, idempotent: true });
  await producer.connect();
  const kept = [];
  for (const turn of range(0, 4)) {
    const transaction = await producer.transaction();
    const values = range(turn * 5, 5).map(String);
    await transaction.send({ topic: "ledger", messages: values.map((value) => ({ value })) });
    await transaction.sendOffsets({
      consumerGroupId: "bookkeepers",
      topics: [{ topic: "ledger", partitions: [{ partition: 0, offset: String(turn) }] }] });
    if (turn % 2 === 0) {
      await transaction.commit();
      kept.push(...values);
    } else {
      await transaction.abort();
    }
  }
  await producer.disconnect();
  const [{ partitions }] = await client.fetchOffsets({
    groupId: "bookkeepers", topics: ["ledger"] });
  assert.equal(partitions[0].offset, "2", "of the last transaction that was committed");
  await client.disconnect();
  // Read committed is what kafkajs does unless told otherwise.
  const member = await new Member(kafka, "ledger", "readers").start();
  await until("the committed values", [member], () => member.seen.length >= kept.length);
  await member.leave();
  assert.deepEqual(member.values().map(String), kept);
}

async function admin(kafka) {
  const client = kafka.admin();
  await client.connect();
  const topics = [{ topic: "made", numPartitions: 4, replicationFactor: 1 }];
  assert.equal(await client.createTopics({ topics, waitForLeaders: true }), true);
  assert.equal(await client.createTopics({ topics }), false, "a topic was made twice");
  assert((await client.listTopics()).includes("made"));
  const described = await client.fetchTopicMetadata({ topics: ["made"] });
  assert.equal(described.topics[0].partitions.length, 4);
  await sendNumbers(kafka, "made", 0, 3, () => 0);
  const ends = await client.fetchTopicOffsets("made");
  assert.equal(ends.find((e) => e.partition === 0).high, "3");
  const member = await new Member(kafka, "made", "watchers").start();
  await until("3 messages", [member], () => member.seen.length >= 3);
  const groups = (await client.listGroups()).groups.map((g) => g.groupId);
  assert(groups.includes("watchers"), `groups: ${groups}`);
  const { groups: [watchers] } = await client.describeGroups(["watchers"]);
  assert.equal(watchers.state, "Stable");
  await member.leave();
  await client.deleteTopics({ topics: ["made"] });
  assert(!(await client.listTopics()).includes("made"));
  await client.disconnect();
}

// 2,000 records "reading N" that others sent one by one: packed on flash with a codec that this
// client has not.
async function packedHistory(kafka) {
  const member = await new Member(kafka, "history", "historians").start();
  await until("all records", [member], () => member.seen.length >= 2000);
  const values = member.seen.map(({ message }) => message.value.toString());
  assert.deepEqual(values, Array.from({ length: 2000 }, (_, i) => `reading ${i}`));
  await member.leave();
}

const STORIES = {
  codec_none: (kafka) => codec(kafka, "none", CompressionTypes.None),
  codec_gzip: (kafka) => codec(kafka, "gzip", CompressionTypes.GZIP),
  idempotent,
  group_auto_commit: groupAutoCommit,
  group_manual_commit: groupManualCommit,
  packed_history: packedHistory,
  rebalance,
  transactions,
  admin,
};

async function main([story, bootstrap]) {
  assert(STORIES[story] && bootstrap, `usage: {${Object.keys(STORIES)}} HOST:PORT`);
  await STORIES[story](clientOf(bootstrap));
  console.log(`ok ${story}`);
}

main(process.argv.slice(2)).catch((error) => {
  console.error(error);
  process.exit(1);
});
