"""Access by rules, as kafka-python meets it: what is not allowed is told by the client's own errors,
what is allowed works. Who comes, by name and password or by certificate, is in the environment.
"""

from story import expect, login_options, main

TOPIC = "line-1"
GROUP = "report"
VALUES = [b"reading %d" % i for i in range(20)]


def denied(bootstrap):
    from kafka import KafkaConsumer, KafkaProducer, TopicPartition
    from kafka.errors import (ClusterAuthorizationFailedError, GroupAuthorizationFailedError,
                              TopicAuthorizationFailedError)

    producer = KafkaProducer(bootstrap_servers=bootstrap, max_block_ms=8000, **login_options())
    try:
        producer.send(TOPIC, b"no").get(timeout=20)
        raise AssertionError("a record was taken")
    except (TopicAuthorizationFailedError, ClusterAuthorizationFailedError):
        pass
    producer.close(timeout=1)
    consumer = KafkaConsumer(bootstrap_servers=bootstrap, group_id=GROUP, **login_options())
    expect(TOPIC in consumer.topics(), False, "a topic is seen that may not be")
    consumer.assign([TopicPartition(TOPIC, 0)])
    try:
        consumer.committed(TopicPartition(TOPIC, 0), timeout_ms=8000)
        raise AssertionError("the offsets of a group were told")
    except (GroupAuthorizationFailedError, TopicAuthorizationFailedError):
        pass
    consumer.close()


def allowed(bootstrap):
    from kafka import KafkaConsumer, KafkaProducer

    producer = KafkaProducer(bootstrap_servers=bootstrap, **login_options())
    for value in VALUES:
        producer.send(TOPIC, value)
    producer.flush()
    producer.close()
    consumer = KafkaConsumer(TOPIC, bootstrap_servers=bootstrap, group_id=GROUP,
                             auto_offset_reset="earliest", consumer_timeout_ms=20000, **login_options())
    seen = []
    for message in consumer:
        seen.append(message.value)
        if len(seen) == len(VALUES):
            break
    expect(seen, VALUES, "records")
    consumer.commit()
    consumer.close()


def not_let_in(bootstrap):
    from kafka import KafkaAdminClient
    from kafka.errors import KafkaError

    try:
        KafkaAdminClient(bootstrap_servers=bootstrap, bootstrap_timeout_ms=3000,
                         **login_options()).list_topics()
    except KafkaError:
        return
    raise AssertionError("somebody was let in without a certificate")


main({"denied": denied, "allowed": allowed, "not_let_in": not_let_in})
