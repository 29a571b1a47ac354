"""aiokafka: the same stories on asyncio."""

import asyncio
import json

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import TopicAlreadyExistsError
from aiokafka.structs import OffsetAndMetadata

from story import PATIENCE_S, expect, expect_shares, main, readings


def to_json(value):
    return json.dumps(value).encode()


async def make_topic(bootstrap, topic, partitions):
    """Create a topic and wait for the answer."""
    client = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await client.start()
    await client.create_topics([NewTopic(topic, partitions, 1)])
    await client.close()


async def take(consumer, count):
    """Exactly `count` messages."""
    async with asyncio.timeout(PATIENCE_S):
        return [await consumer.getone() for _ in range(count)]


async def codec(bootstrap, compression_type):
    """acks='all', serialisers, keys and headers, one compression type."""
    topic = f"codec-{compression_type}"
    values = readings(300)
    async with AIOKafkaProducer(bootstrap_servers=bootstrap, acks="all", linger_ms=20,
                                compression_type=compression_type,
                                key_serializer=str.encode, value_serializer=to_json) as producer:
        sent = [await producer.send(topic, key=v["device"], value=v,
                                    headers=[("unit", b"celsius")]) for v in values]
        acks = await asyncio.gather(*sent)
    expect([a.offset for a in acks], list(range(300)), "offsets acknowledged")
    async with AIOKafkaConsumer(topic, bootstrap_servers=bootstrap, auto_offset_reset="earliest",
                                key_deserializer=bytes.decode,
                                value_deserializer=json.loads) as consumer:
        seen = await take(consumer, 300)
    expect([m.value for m in seen], values, "values")
    expect([m.key for m in seen], [v["device"] for v in values], "keys")
    assert all(m.headers == (("unit", b"celsius"),) for m in seen), "headers"


async def idempotent(bootstrap):
    """enable_idempotence=True over three partitions."""
    await make_topic(bootstrap, "once", 3)
    values = readings(1000)
    async with AIOKafkaProducer(bootstrap_servers=bootstrap, enable_idempotence=True,
                                key_serializer=str.encode, value_serializer=to_json) as producer:
        sent = [await producer.send("once", key=v["device"], value=v) for v in values]
        acks = await asyncio.gather(*sent)
    where = {(a.partition, a.offset): v for a, v in zip(acks, values)}
    expect(len(where), 1000, "distinct (partition, offset) acknowledged")
    async with AIOKafkaConsumer("once", bootstrap_servers=bootstrap, auto_offset_reset="earliest",
                                value_deserializer=json.loads) as consumer:
        seen = await take(consumer, 1000)
    expect({(m.partition, m.offset): m.value for m in seen}, where, "what stands where")


def group_consumer(bootstrap, topic, group, auto_commit):
    return AIOKafkaConsumer(topic, bootstrap_servers=bootstrap, group_id=group,
                            auto_offset_reset="earliest", enable_auto_commit=auto_commit,
                            value_deserializer=json.loads)


async def produce_numbers(bootstrap, topic, first, count):
    async with AIOKafkaProducer(bootstrap_servers=bootstrap, value_serializer=to_json) as producer:
        for value in range(first, first + count):
            await producer.send_and_wait(topic, value)


async def group_auto_commit(bootstrap):
    """A group that commits by itself goes on where it left off."""
    await produce_numbers(bootstrap, "auto", 0, 20)
    async with group_consumer(bootstrap, "auto", "auto-group", True) as first:
        expect([m.value for m in await take(first, 20)], list(range(20)), "first run")
    await produce_numbers(bootstrap, "auto", 20, 10)
    async with group_consumer(bootstrap, "auto", "auto-group", True) as second:
        expect([m.value for m in await take(second, 10)], list(range(20, 30)), "second run")


async def group_manual_commit(bootstrap):
    """enable_auto_commit=False: only what was committed is behind us."""
    await produce_numbers(bootstrap, "manual", 0, 10)
    partition = TopicPartition("manual", 0)
    async with group_consumer(bootstrap, "manual", "manual-group", False) as first:
        await take(first, 8)
        await first.commit({partition: 5})
        expect(await first.committed(partition), 5, "committed")
    async with group_consumer(bootstrap, "manual", "manual-group", False) as second:
        expect([m.value for m in await take(second, 5)], [5, 6, 7, 8, 9], "a new member")


class AsyncMember:
    """A group member whose task takes messages until it is told to leave."""

    def __init__(self, bootstrap):
        self.seen = []
        self.consumer = AIOKafkaConsumer(
            "shared", bootstrap_servers=bootstrap, group_id="sharers",
            auto_offset_reset="earliest", value_deserializer=json.loads,
            heartbeat_interval_ms=300, session_timeout_ms=10000)
        self.task = asyncio.create_task(self.run())
        self.leaving = False

    async def run(self):
        await self.consumer.start()
        while not self.leaving:
            for batch in (await self.consumer.getmany(timeout_ms=200)).values():
                self.seen.extend(m.value for m in batch)
        await self.consumer.stop()

    def assigned(self):
        return {p.partition for p in self.consumer.assignment()}

    async def leave(self):
        self.leaving = True
        await self.task


async def rebalance(bootstrap):
    """Two consumers share four partitions and rebalance when one leaves."""
    await make_topic(bootstrap, "shared", 4)
    one, two = AsyncMember(bootstrap), AsyncMember(bootstrap)

    async def until(condition):
        while not condition():
            for member in (one, two):
                if member.task.done():
                    member.task.result()
            await asyncio.sleep(0.05)

    async def produce(first, count):
        async with AIOKafkaProducer(bootstrap_servers=bootstrap,
                                    value_serializer=to_json) as producer:
            sent = [await producer.send("shared", value, partition=value % 4)
                    for value in range(first, first + count)]
            await asyncio.gather(*sent)

    async with asyncio.timeout(PATIENCE_S):
        await until(lambda: len(one.assigned()) == 2 and len(two.assigned()) == 2)
        expect_shares([one.assigned(), two.assigned()], 4)
        await produce(0, 200)
        await until(lambda: len(one.seen) + len(two.seen) >= 200)
        await two.leave()
        await until(lambda: len(one.assigned()) == 4)
        await produce(200, 200)
        await until(lambda: len(one.seen) + len(two.seen) >= 400)
        await one.leave()
    expect(sorted(one.seen + two.seen), list(range(400)), "values seen by the group")


async def transactions(bootstrap):
    """One transaction is committed, one fails: the second one's values are never seen."""
    await make_topic(bootstrap, "ledger", 1)
    values = readings(20)
    async with AIOKafkaProducer(bootstrap_servers=bootstrap, transactional_id="tutorial",
                                value_serializer=to_json) as producer:
        async with producer.transaction():
            for value in values[:10]:
                await producer.send_and_wait("ledger", value)
        try:
            async with producer.transaction():
                await producer.send_and_wait("ledger", {"never": "seen"})
                raise ValueError("the work failed")
        except ValueError:
            pass
        async with producer.transaction():
            for value in values[10:]:
                await producer.send("ledger", value)
            await producer.send_offsets_to_transaction(
                {TopicPartition("ledger", 0): OffsetAndMetadata(7, "seven")}, "bookkeepers")
    async with AIOKafkaConsumer("ledger", bootstrap_servers=bootstrap, group_id="bookkeepers",
                                isolation_level="read_committed", enable_auto_commit=False,
                                auto_offset_reset="earliest",
                                value_deserializer=json.loads) as consumer:
        expect(await consumer.committed(TopicPartition("ledger", 0)), 7, "committed offset")
        await consumer.seek_to_beginning()
        seen = [message.value for message in await take(consumer, 20)]
        expect(seen, values, "committed values")


async def admin(bootstrap):
    """Topics made, listed, refused twice, deleted; groups listed."""
    client = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await client.start()
    await client.create_topics([NewTopic("made", 4, 1)])
    assert "made" in await client.list_topics(), "the topic is listed"
    described = await client.describe_topics(["made"])
    expect(len(described[0]["partitions"]), 4, "partitions described")
    try:
        answer = await client.create_topics([NewTopic("made", 1, 1)])
        expect(answer.topic_errors[0][1], TopicAlreadyExistsError.errno, "second creation")
    except TopicAlreadyExistsError:
        pass
    await produce_numbers(bootstrap, "made", 0, 1)
    async with group_consumer(bootstrap, "made", "watchers", True) as member:
        await take(member, 1)
        groups = await client.list_consumer_groups()
        assert "watchers" in [g[0] for g in groups], f"groups: {groups}"
    await client.delete_topics(["made"])
    async with asyncio.timeout(PATIENCE_S):
        while "made" in await client.list_topics():
            await asyncio.sleep(0.05)
    await client.close()


def run(story):
    return lambda bootstrap: asyncio.run(story(bootstrap))


if __name__ == "__main__":
    main({
        "codec_none": run(lambda b: codec(b, None)),
        "codec_gzip": run(lambda b: codec(b, "gzip")),
        "codec_snappy": run(lambda b: codec(b, "snappy")),
        "codec_lz4": run(lambda b: codec(b, "lz4")),
        "codec_zstd": run(lambda b: codec(b, "zstd")),
        "idempotent": run(idempotent),
        "group_auto_commit": run(group_auto_commit),
        "group_manual_commit": run(group_manual_commit),
        "rebalance": run(rebalance),
        "transactions": run(transactions),
        "admin": run(admin),
    })
