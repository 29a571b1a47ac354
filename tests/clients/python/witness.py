"""A witness of what is committed: `witness.py HOST:PORT live|end TOPIC...` prints each record of the
topics that a read_committed consumer sees, one JSON list a line: topic, partition, offset, timestamp,
key, value, headers. `live` goes on until it is killed, whatever becomes of the broker; `end` ends
where the topics end.
"""

import json
import sys

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition


def text(content):
    """Bytes as text, None as it is."""
    return None if content is None else content.decode("utf-8", "replace")


def main():
    bootstrap, until, topics = sys.argv[1], sys.argv[2], sys.argv[3:]
    consumer = Consumer({
        "bootstrap.servers": bootstrap, "group.id": "witness", "enable.auto.commit": False,
        "auto.offset.reset": "earliest", "isolation.level": "read_committed",
        "enable.partition.eof": until == "end", "fetch.wait.max.ms": 100,
        "reconnect.backoff.max.ms": 200, "log_level": 0,
    })
    open_ends = set()
    for topic in topics:
        open_ends |= {(topic, at) for at in consumer.list_topics(topic, 30).topics[topic].partitions}
    consumer.assign([TopicPartition(topic, at, 0) for topic, at in sorted(open_ends)])
    while until == "live" or open_ends:
        for message in consumer.consume(500, 0.1):
            tell(message, open_ends)
        sys.stdout.flush()
    consumer.close()


def tell(message, open_ends):
    """Print a record, or note an end. A broker that is away for now is no trouble."""
    error = message.error()
    if error is None:
        headers = [[name, text(value)] for name, value in message.headers() or []]
        print(json.dumps([message.topic(), message.partition(), message.offset(),
                          message.timestamp()[1], text(message.key()), text(message.value()),
                          headers]))
    elif error.code() == KafkaError._PARTITION_EOF:
        open_ends.discard((message.topic(), message.partition()))
    elif not error.retriable() and error.code() not in (
            KafkaError._TRANSPORT, KafkaError._ALL_BROKERS_DOWN):
        raise KafkaException(error)


main()
