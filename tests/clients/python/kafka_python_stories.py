"""kafka-python: the tutorial's producer and consumer, and what people do next."""

import json

from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer, TopicPartition
from kafka.errors import TopicAlreadyExistsError, UnknownTopicOrPartitionError

from story import Member, expect, main, readings, two_members_share_four_partitions, until


def to_json(value):
    return json.dumps(value).encode()


def tutorial(bootstrap):
    """The first page of every tutorial: bytes in, bytes out, the topic made by the way."""
    producer = KafkaProducer(bootstrap_servers=bootstrap)
    for i in range(100):
        producer.send("my-topic", b"some_message_bytes %d" % i)
    metadata = producer.send("my-topic", key=b"foo", value=b"bar").get(timeout=30)
    expect((metadata.topic, metadata.partition), ("my-topic", 0), "where the last one went")
    expect(metadata.offset, 100, "offset of the last one")
    producer.flush()
    producer.close()

    consumer = KafkaConsumer("my-topic", bootstrap_servers=[bootstrap],
                             auto_offset_reset="earliest", consumer_timeout_ms=20000)
    seen = []
    for message in consumer:
        seen.append(message.value)
        if len(seen) == 101:
            break
    expect(seen, [b"some_message_bytes %d" % i for i in range(100)] + [b"bar"], "messages")
    expect(consumer.partitions_for_topic("my-topic"), {0}, "partitions")
    consumer.close()


def codec(bootstrap, compression_type):
    """acks='all', serialisers, keys and headers, one compression type."""
    topic = f"codec-{compression_type}"
    values = readings(300)
    producer = KafkaProducer(bootstrap_servers=bootstrap, acks="all", linger_ms=20,
                             compression_type=compression_type,
                             key_serializer=str.encode, value_serializer=to_json)
    sent = [producer.send(topic, key=value["device"], value=value,
                          headers=[("unit", b"celsius")]) for value in values]
    acks = [future.get(timeout=30) for future in sent]
    expect([a.offset for a in acks], list(range(300)), "offsets acknowledged")
    expect({a.partition for a in acks}, {0}, "partitions acknowledged")
    producer.close()

    consumer = KafkaConsumer(topic, bootstrap_servers=bootstrap, auto_offset_reset="earliest",
                             key_deserializer=bytes.decode, value_deserializer=json.loads,
                             consumer_timeout_ms=20000)
    seen = [next(consumer) for _ in values]
    consumer.close()
    expect([m.value for m in seen], values, "values")
    expect([m.key for m in seen], [v["device"] for v in values], "keys")
    expect([m.offset for m in seen], list(range(300)), "offsets")
    assert all(list(m.headers) == [("unit", b"celsius")] for m in seen), "headers"
    assert all(m.timestamp > 0 for m in seen), "timestamps"


def idempotent(bootstrap):
    """enable_idempotence=True over three partitions: keys stay together, in order, once."""
    admin = KafkaAdminClient(bootstrap_servers=bootstrap)
    admin.create_topics({"once": {"num_partitions": 3, "replication_factor": 1}})
    admin.close()
    producer = KafkaProducer(bootstrap_servers=bootstrap, acks="all", enable_idempotence=True,
                             key_serializer=str.encode, value_serializer=to_json)
    values = readings(1000)
    sent = [(value, producer.send("once", key=value["device"], value=value)) for value in values]
    where = {(a.partition, a.offset): value
             for value, a in ((value, future.get(timeout=30)) for value, future in sent)}
    expect(len(where), 1000, "distinct (partition, offset) acknowledged")
    producer.close()

    consumer = KafkaConsumer("once", bootstrap_servers=bootstrap, auto_offset_reset="earliest",
                             value_deserializer=json.loads, consumer_timeout_ms=20000)
    seen = [next(consumer) for _ in values]
    consumer.close()
    expect({(m.partition, m.offset): m.value for m in seen}, where, "what stands where")
    for device in {v["device"] for v in values}:
        own = [m.value["seq"] for m in seen if m.value["device"] == device]
        expect(own, sorted(own), f"order of {device}")


def take(consumer, count):
    """Exactly `count` messages."""
    return [next(consumer) for _ in range(count)]


def group_auto_commit(bootstrap):
    """A group that commits by itself goes on where it left off."""
    producer = KafkaProducer(bootstrap_servers=bootstrap, value_serializer=to_json)

    def produce(first, count):
        for value in range(first, first + count):
            producer.send("auto", value)
        producer.flush()

    def consumer():
        return KafkaConsumer("auto", bootstrap_servers=bootstrap, group_id="auto-group",
                             auto_offset_reset="earliest", enable_auto_commit=True,
                             value_deserializer=json.loads, consumer_timeout_ms=20000)

    produce(0, 20)
    first = consumer()
    expect([m.value for m in take(first, 20)], list(range(20)), "first run")
    first.close()
    produce(20, 10)
    second = consumer()
    expect([m.value for m in take(second, 10)], list(range(20, 30)), "second run")
    second.close()
    producer.close()


def group_manual_commit(bootstrap):
    """enable_auto_commit=False: only what was committed is behind us."""
    producer = KafkaProducer(bootstrap_servers=bootstrap, value_serializer=to_json)
    for value in range(10):
        producer.send("manual", value)
    producer.close()

    def consumer():
        return KafkaConsumer("manual", bootstrap_servers=bootstrap, group_id="manual-group",
                             auto_offset_reset="earliest", enable_auto_commit=False,
                             max_poll_records=5, value_deserializer=json.loads,
                             consumer_timeout_ms=20000)

    first = consumer()
    expect([m.value for m in take(first, 5)], [0, 1, 2, 3, 4], "before the commit")
    first.commit()
    expect(first.committed(TopicPartition("manual", 0)), 5, "committed")
    expect([m.value for m in take(first, 3)], [5, 6, 7], "after the commit")
    first.close()
    second = consumer()
    expect([m.value for m in take(second, 5)], [5, 6, 7, 8, 9], "a new member")
    second.close()


def rebalance(bootstrap):
    """Two consumers share four partitions and rebalance when one leaves."""
    admin = KafkaAdminClient(bootstrap_servers=bootstrap)
    admin.create_topics({"shared": {"num_partitions": 4, "replication_factor": 1}})
    admin.close()
    producer = KafkaProducer(bootstrap_servers=bootstrap, value_serializer=to_json)

    def produce(first, count):
        for value in range(first, first + count):
            producer.send("shared", value, partition=value % 4)
        producer.flush()

    def new_member():
        return Member(
            lambda: KafkaConsumer("shared", bootstrap_servers=bootstrap, group_id="sharers",
                                  auto_offset_reset="earliest", value_deserializer=json.loads,
                                  heartbeat_interval_ms=300, session_timeout_ms=10000),
            lambda c: [(m.partition, m.offset, m.value)
                       for batch in c.poll(timeout_ms=200).values() for m in batch],
            lambda c: {p.partition for p in c.assignment()},
            lambda c: c.close())

    two_members_share_four_partitions(new_member, produce)
    producer.close()


def seek_and_offsets(bootstrap):
    """Beginning, end, seek, and the offset at a time."""
    producer = KafkaProducer(bootstrap_servers=bootstrap)
    for i in range(50):
        producer.send("seek", b"%d" % i, timestamp_ms=1_700_000_000_000 + i * 1000)
    producer.close()
    partition = TopicPartition("seek", 0)
    consumer = KafkaConsumer(bootstrap_servers=bootstrap, consumer_timeout_ms=20000)
    consumer.assign([partition])
    expect(consumer.beginning_offsets([partition]), {partition: 0}, "beginning")
    expect(consumer.end_offsets([partition]), {partition: 50}, "end")
    at = consumer.offsets_for_times({partition: 1_700_000_000_000 + 20_500})[partition]
    expect((at.offset, at.timestamp), (21, 1_700_000_000_000 + 21_000), "offset for a time")
    consumer.seek(partition, 45)
    expect([m.value for m in take(consumer, 5)], [b"45", b"46", b"47", b"48", b"49"], "seek")
    consumer.seek_to_beginning(partition)
    expect(next(consumer).value, b"0", "seek to the beginning")
    consumer.close()


def keyed(bootstrap):
    """Two hundred keys to the seven partitions of a topic that is there: the caller looks where."""
    producer = KafkaProducer(bootstrap_servers=bootstrap, key_serializer=str.encode)
    for n in range(200):
        producer.send("theirs", key=f"device-{n}", value=b"x")
    producer.close()


def transactions(bootstrap):
    """Every second transaction is aborted: readers of committed data see the others, in order."""
    producer = KafkaProducer(bootstrap_servers=bootstrap, transactional_id="tutorial",
                             value_serializer=to_json)
    producer.init_transactions()
    values = readings(40)
    for turn in range(4):
        producer.begin_transaction()
        for value in values[turn * 10:turn * 10 + 10]:
            producer.send("ledger", value)
        if turn % 2 == 0:
            producer.commit_transaction()
        else:
            producer.flush()
            producer.abort_transaction()
    producer.close()
    consumer = KafkaConsumer("ledger", bootstrap_servers=bootstrap, auto_offset_reset="earliest",
                             isolation_level="read_committed", value_deserializer=json.loads)
    seen = [message.value for message in take(consumer, 20)]
    expect(seen, values[:10] + values[20:30], "committed values")
    expect(consumer.poll(500), {}, "and nothing more")
    consumer.close()


def admin(bootstrap):
    """Topics made, shown, listed, refused twice, deleted; groups listed and described."""
    client = KafkaAdminClient(bootstrap_servers=bootstrap)
    client.create_topics({"made": {"num_partitions": 4, "replication_factor": 1,
                                   "configs": {"retention.ms": "3600000"}}})
    assert "made" in client.list_topics(), "the topic is listed"
    described = client.describe_topics(["made"])[0]
    expect(len(described["partitions"]), 4, "partitions described")
    try:
        client.create_topics({"made": {"num_partitions": 1, "replication_factor": 1}})
        raise AssertionError("a topic was made twice")
    except TopicAlreadyExistsError:
        pass

    producer = KafkaProducer(bootstrap_servers=bootstrap)
    producer.send("made", b"x", partition=0).get(timeout=30)
    producer.close()
    member = KafkaConsumer("made", bootstrap_servers=bootstrap, group_id="watchers",
                           auto_offset_reset="earliest", consumer_timeout_ms=20000)
    next(member)
    groups = [g.get("group_id", g) if isinstance(g, dict) else g for g in client.list_groups()]
    assert "watchers" in str(groups), f"the group is listed: {groups}"
    assert "Stable" in str(client.describe_groups(["watchers"])), "the group is described"
    member.close()

    client.delete_topics(["made"])
    until("the topic to be gone", lambda: "made" not in client.list_topics())
    try:
        client.delete_topics(["made"])
        raise AssertionError("a topic was deleted twice")
    except UnknownTopicOrPartitionError:
        pass
    client.close()


if __name__ == "__main__":
    main({
        "tutorial": tutorial,
        "codec_none": lambda b: codec(b, None),
        "codec_gzip": lambda b: codec(b, "gzip"),
        "codec_snappy": lambda b: codec(b, "snappy"),
        "codec_lz4": lambda b: codec(b, "lz4"),
        "codec_zstd": lambda b: codec(b, "zstd"),
        "idempotent": idempotent,
        "group_auto_commit": group_auto_commit,
        "group_manual_commit": group_manual_commit,
        "rebalance": rebalance,
        "seek_and_offsets": seek_and_offsets,
        "keyed": keyed,
        "transactions": transactions,
        "admin": admin,
    })
