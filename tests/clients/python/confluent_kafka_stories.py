"""confluent-kafka (librdkafka): delivery reports, groups and the admin client."""

import json
import threading

from confluent_kafka import Consumer, KafkaError, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, ConfigResource, NewTopic

from story import Member, expect, main, readings, two_members_share_four_partitions, until


class Reports:
    """Delivery reports, in the order in which they came."""

    def __init__(self):
        self.delivered = []
        self.errors = []

    def __call__(self, error, message):
        if error is None:
            self.delivered.append((message.partition(), message.offset()))
        else:
            self.errors.append(error)


def produce_all(producer, topic, values, key=None, **more):
    """Send JSON values and wait for every report; returns (partition, offset) pairs."""
    reports = Reports()
    for value in values:
        producer.produce(topic, json.dumps(value).encode(), key=key(value) if key else None,
                         on_delivery=reports, **more)
        producer.poll(0)
    expect(producer.flush(30), 0, "messages left after flush")
    expect(reports.errors, [], "delivery errors")
    expect(len(reports.delivered), len(values), "delivery reports")
    return reports.delivered


def consumer_of(bootstrap, topic, group, **more):
    """A subscribed consumer that starts at the earliest offset."""
    consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": group,
                         "auto.offset.reset": "earliest", **more})
    consumer.subscribe([topic])
    return consumer


def take(consumer, count):
    """Exactly `count` messages."""
    seen = []

    def step():
        message = consumer.poll(0.5)
        if message is None:
            return
        if message.error():
            raise KafkaException(message.error())
        seen.append(message)

    until(f"{count} messages", lambda: len(seen) >= count, step)
    return seen


def codec(bootstrap, compression):
    """acks=all, keys and headers, one compression type."""
    topic = f"codec-{compression}"
    values = readings(300)
    producer = Producer({"bootstrap.servers": bootstrap, "acks": "all", "linger.ms": 20,
                         "compression.type": compression})
    where = produce_all(producer, topic, values, key=lambda v: v["device"],
                        headers=[("unit", b"celsius")])
    expect(where, [(0, offset) for offset in range(300)], "delivered")
    consumer = consumer_of(bootstrap, topic, f"readers-{compression}")
    seen = take(consumer, 300)
    consumer.close()
    expect([json.loads(m.value()) for m in seen], values, "values")
    expect([m.key().decode() for m in seen], [v["device"] for v in values], "keys")
    assert all(m.headers() == [("unit", b"celsius")] for m in seen), "headers"


def idempotent(bootstrap):
    """enable.idempotence over three partitions."""
    make_topic(bootstrap, "once", 3)
    producer = Producer({"bootstrap.servers": bootstrap, "enable.idempotence": True})
    where = produce_all(producer, "once", readings(1000), key=lambda v: v["device"])
    expect(len(set(where)), 1000, "distinct (partition, offset) delivered")
    consumer = consumer_of(bootstrap, "once", "once-readers")
    seen = take(consumer, 1000)
    consumer.close()
    expect({(m.partition(), m.offset()) for m in seen}, set(where), "what stands where")
    for partition in range(3):
        own = {}
        for message in seen:
            if message.partition() == partition:
                value = json.loads(message.value())
                own.setdefault(value["device"], []).append(value["seq"])
        for device, order in own.items():
            expect(order, sorted(order), f"order of {device}")


def make_topic(bootstrap, topic, partitions):
    """Create a topic and wait for the answer."""
    admin_client = AdminClient({"bootstrap.servers": bootstrap})
    futures = admin_client.create_topics([NewTopic(topic, partitions, 1)])
    futures[topic].result(30)
    return admin_client


def group_auto_commit(bootstrap):
    """A group that commits by itself goes on where it left off."""
    producer = Producer({"bootstrap.servers": bootstrap})
    produce_all(producer, "auto", list(range(20)))
    first = consumer_of(bootstrap, "auto", "auto-group")
    expect([json.loads(m.value()) for m in take(first, 20)], list(range(20)), "first run")
    first.close()
    produce_all(producer, "auto", list(range(20, 30)))
    second = consumer_of(bootstrap, "auto", "auto-group")
    expect([json.loads(m.value()) for m in take(second, 10)], list(range(20, 30)), "second run")
    second.close()


def group_manual_commit(bootstrap):
    """enable.auto.commit=false: only what was committed is behind us, its metadata kept."""
    produce_all(Producer({"bootstrap.servers": bootstrap}), "manual", list(range(10)))
    first = consumer_of(bootstrap, "manual", "manual-group", **{"enable.auto.commit": False})
    take(first, 8)
    first.commit(offsets=[TopicPartition("manual", 0, 5, "half way")], asynchronous=False)
    committed = first.committed([TopicPartition("manual", 0)], 30)[0]
    expect((committed.offset, committed.metadata), (5, "half way"), "committed")
    first.close()
    second = consumer_of(bootstrap, "manual", "manual-group", **{"enable.auto.commit": False})
    expect([json.loads(m.value()) for m in take(second, 5)], [5, 6, 7, 8, 9], "a new member")
    second.close()


def rebalance(bootstrap):
    """Two consumers share four partitions and rebalance when one leaves."""
    make_topic(bootstrap, "shared", 4)
    producer = Producer({"bootstrap.servers": bootstrap})

    def produce(first, count):
        for value in range(first, first + count):
            producer.produce("shared", json.dumps(value), partition=value % 4)
        expect(producer.flush(30), 0, "messages left after flush")

    def poll(consumer):
        messages = consumer.consume(100, 0.2)
        for message in messages:
            if message.error():
                raise KafkaException(message.error())
        return [(m.partition(), m.offset(), json.loads(m.value())) for m in messages]

    def new_member():
        return Member(
            lambda: consumer_of(bootstrap, "shared", "sharers",
                                **{"heartbeat.interval.ms": 300, "session.timeout.ms": 10000}),
            poll,
            lambda c: {p.partition for p in c.assignment()},
            lambda c: c.close())

    two_members_share_four_partitions(new_member, produce)


def offsets(bootstrap):
    """Watermarks and the offset at a time."""
    producer = Producer({"bootstrap.servers": bootstrap})
    for i in range(50):
        producer.produce("seek", b"%d" % i, timestamp=1_700_000_000_000 + i * 1000)
    expect(producer.flush(30), 0, "messages left after flush")
    consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": "seekers"})
    expect(consumer.get_watermark_offsets(TopicPartition("seek", 0), 30), (0, 50), "watermarks")
    asked = TopicPartition("seek", 0, 1_700_000_000_000 + 20_500)
    expect(consumer.offsets_for_times([asked], 30)[0].offset, 21, "offset for a time")
    consumer.assign([TopicPartition("seek", 0, 45)])
    expect([m.value() for m in take(consumer, 5)], [b"%d" % i for i in range(45, 50)], "assigned")
    consumer.close()


def committed_values(bootstrap, topic):
    """All that a reader of committed data finds up to the end."""
    consumer = consumer_of(bootstrap, topic, f"readers of {topic}",
                           **{"isolation.level": "read_committed", "enable.partition.eof": True})
    values, ends = [], []

    def step():
        message = consumer.poll(0.5)
        if message is None:
            return
        if message.error():
            expect(message.error().code(), KafkaError._PARTITION_EOF, "error")
            ends.append(message.partition())
        else:
            values.append(json.loads(message.value()))

    until("the end of the topic", lambda: ends, step)
    consumer.close()
    return values


def transactions(bootstrap):
    """Reads, works and writes exactly once; what is aborted is never seen, zombies are fenced."""
    make_topic(bootstrap, "orders", 1)
    make_topic(bootstrap, "bills", 1)
    orders = readings(20)
    produce_all(Producer({"bootstrap.servers": bootstrap}), "orders", orders)
    consumer = consumer_of(bootstrap, "orders", "billing", **{"enable.auto.commit": False})
    worker = Producer({"bootstrap.servers": bootstrap, "transactional.id": "billing-1"})
    worker.init_transactions(30)
    for turn in range(4):
        messages = take(consumer, 5)
        for is_kept in (False, True):
            worker.begin_transaction()
            for message in messages:
                bill = json.loads(message.value()) | {"kept": is_kept}
                worker.produce("bills", json.dumps(bill).encode())
            positions = consumer.position(consumer.assignment())
            worker.send_offsets_to_transaction(positions, consumer.consumer_group_metadata(), 30)
            if is_kept:
                worker.commit_transaction(30)
            else:
                worker.flush(30)
                worker.abort_transaction(30)
            at = consumer.committed(consumer.assignment(), 30)[0].offset
            expect(at if at >= 0 else 0, turn * 5 + (5 if is_kept else 0), "committed offset")
    consumer.close()
    heir = Producer({"bootstrap.servers": bootstrap, "transactional.id": "billing-1"})
    heir.init_transactions(30)
    try:
        worker.begin_transaction()
        worker.produce("bills", b"zombie")
        worker.commit_transaction(30)
        raise AssertionError("a zombie committed")
    except KafkaException as error:
        expect(error.args[0].code(), KafkaError._FENCED, "error of a zombie")
    bills = committed_values(bootstrap, "bills")
    expect(bills, [order | {"kept": True} for order in orders], "bills")


def admin(bootstrap):
    """Topics made, described, refused twice, deleted; groups listed and described."""
    client = make_topic(bootstrap, "made", 4)
    expect(len(client.list_topics("made", 30).topics["made"].partitions), 4, "partitions")
    try:
        client.create_topics([NewTopic("made", 1, 1)])["made"].result(30)
        raise AssertionError("a topic was made twice")
    except KafkaException as error:
        expect(error.args[0].code(), KafkaError.TOPIC_ALREADY_EXISTS, "second creation")
    resource = ConfigResource(ConfigResource.Type.TOPIC, "made")
    configs = client.describe_configs([resource])[resource].result(30)
    assert "cleanup.policy" in configs, f"cleanup.policy is described: {sorted(configs)}"

    produce_all(Producer({"bootstrap.servers": bootstrap}), "made", [1])
    member = consumer_of(bootstrap, "made", "watchers")
    take(member, 1)
    listed = client.list_consumer_groups().result(30)
    assert "watchers" in [g.group_id for g in listed.valid], f"groups: {listed.valid}"
    described = client.describe_consumer_groups(["watchers"])["watchers"].result(30)
    expect(len(described.members), 1, "members described")
    member.close()

    client.delete_topics(["made"])["made"].result(30)
    gone = threading.Event()
    until("the topic to be gone", lambda: "made" not in client.list_topics(timeout=30).topics,
          lambda: gone.wait(0.05))


if __name__ == "__main__":
    main({
        "codec_none": lambda b: codec(b, "none"),
        "codec_gzip": lambda b: codec(b, "gzip"),
        "codec_snappy": lambda b: codec(b, "snappy"),
        "codec_lz4": lambda b: codec(b, "lz4"),
        "codec_zstd": lambda b: codec(b, "zstd"),
        "idempotent": idempotent,
        "group_auto_commit": group_auto_commit,
        "group_manual_commit": group_manual_commit,
        "rebalance": rebalance,
        "offsets": offsets,
        "transactions": transactions,
        "admin": admin,
    })
