// kafkajs logs in with SASL: the right password reads and writes, the wrong one is told so.
//
// Started as `node sasl_stories.js STORY HOST:PORT`; listener, mechanism and password come from the
// environment. Prints `ok STORY`, or fails with the assertion that did not hold.
"use strict";

const assert = require("node:assert/strict");
const fs = require("node:fs");
const { Kafka, logLevel } = require("kafkajs");

const { SASL_PROTOCOL, SASL_MECHANISM, SASL_USER, SASL_PASSWORD, SASL_CA } = process.env;

function clientOf(bootstrap) {
  return new Kafka({
    clientId: "sasl-stories",
    brokers: [bootstrap],
    logLevel: logLevel.NOTHING,
    ssl: SASL_PROTOCOL === "SASL_SSL" ? { ca: [fs.readFileSync(SASL_CA, "utf-8")] } : undefined,
    sasl: SASL_MECHANISM === "OAUTHBEARER"
      ? { mechanism: "oauthbearer", oauthBearerProvider: async () => ({ value: SASL_PASSWORD }) }
      : { mechanism: SASL_MECHANISM.toLowerCase(), username: SASL_USER, password: SASL_PASSWORD },
  });
}

async function kafkajs(kafka) {
  const topic = `sasl-kafkajs-${SASL_PROTOCOL}-${SASL_MECHANISM}`.toLowerCase();
  const values = Array.from({ length: 50 }, (_, i) => `reading ${i}`);
  const producer = kafka.producer();
  await producer.connect();
  await producer.send({ topic, messages: values.map((value) => ({ value })) });
  await producer.disconnect();
  const consumer = kafka.consumer({ groupId: "kafkajs" });
  await consumer.connect();
  await consumer.subscribe({ topics: [topic], fromBeginning: true });
  const seen = [];
  await new Promise((resolve, reject) => {
    const late = setTimeout(() => reject(new Error(`${seen.length} records after 40 s`)), 40_000);
    consumer.run({
      eachMessage: async ({ message }) => {
        seen.push(message.value.toString());
        if (seen.length === values.length) {
          clearTimeout(late);
          resolve();
        }
      },
    }).catch(reject);
  });
  assert.deepEqual(seen, values);
  await consumer.disconnect();
}

async function kafkajsRefused(kafka) {
  const producer = kafka.producer();
  const begun = Date.now();
  await assert.rejects(producer.connect(), (error) => {
    assert.equal(error.name, "KafkaJSSASLAuthenticationError", error.stack);
    assert.match(error.message, /invalid credentials/);
    return true;
  });
  assert(Date.now() - begun < 30_000, "told late");
  await producer.disconnect();
}

const STORIES = { kafkajs, kafkajs_refused: kafkajsRefused };

async function main([story, bootstrap]) {
  assert(STORIES[story] && bootstrap, `usage: {${Object.keys(STORIES)}} HOST:PORT`);
  await STORIES[story](clientOf(bootstrap));
  console.log(`ok ${story}`);
}

main(process.argv.slice(2)).catch((error) => {
  console.error(error);
  process.exit(1);
});
