"""Logins with SASL of the three Python clients: the right password reads and writes, the wrong one
is told so by the error that the client has for it, soon.

The listener, mechanism and password come from the environment, since they are not the story.
"""

import asyncio
import logging
import os
import ssl
import time

from story import expect, login_options, main

PROTOCOL = os.environ["SASL_PROTOCOL"]
MECHANISM = os.environ["SASL_MECHANISM"]
USER = os.environ["SASL_USER"]
PASSWORD = os.environ["SASL_PASSWORD"]
CA = os.environ.get("SASL_CA", "")

VALUES = [b"reading %d" % i for i in range(50)]
# A wrong password is no reason to wait: clients are told, they do not time out.
TOLD_WITHIN_S = 30


def topic(client):
    return f"sasl-{client}-{PROTOCOL}-{MECHANISM}".lower()


def kafka_python(bootstrap):
    from kafka import KafkaConsumer, KafkaProducer

    options = login_options()
    producer = KafkaProducer(bootstrap_servers=bootstrap, **options)
    for value in VALUES:
        producer.send(topic("kafka-python"), value)
    producer.flush()
    producer.close()
    consumer = KafkaConsumer(topic("kafka-python"), bootstrap_servers=bootstrap,
                             group_id="kafka-python", auto_offset_reset="earliest",
                             consumer_timeout_ms=20000, **options)
    seen = []
    for message in consumer:
        seen.append(message.value)
        if len(seen) == len(VALUES):
            break
    expect(seen, VALUES, "records")
    consumer.close()


def kafka_python_refused(bootstrap):
    from kafka import KafkaAdminClient
    from kafka.errors import KafkaError

    # While it looks for a first broker it logs why one does not do, and goes on looking.
    told = []
    handler = logging.Handler()
    handler.emit = lambda record: told.append(record.getMessage())
    logging.getLogger("kafka").addHandler(handler)
    try:
        KafkaAdminClient(bootstrap_servers=bootstrap, bootstrap_timeout_ms=3000,
                         **login_options()).list_topics()
    except KafkaError:
        pass
    else:
        raise AssertionError("a wrong password was let in")
    refusals = [line for line in told if "SaslAuthenticationFailed" in line]
    assert any("invalid credentials" in line for line in refusals), told


def confluent_options(bootstrap, **more):
    options = {"bootstrap.servers": bootstrap, "security.protocol": PROTOCOL,
               "sasl.mechanism": MECHANISM}
    if MECHANISM == "OAUTHBEARER":
        options["oauth_cb"] = lambda _: (PASSWORD, time.time() + 600, USER, {})
    else:
        options.update({"sasl.username": USER, "sasl.password": PASSWORD})
    return {**options, **({"ssl.ca.location": CA} if CA else {}), **more}


def confluent_kafka(bootstrap):
    from confluent_kafka import Consumer, Producer

    name = topic("confluent")
    producer = Producer(confluent_options(bootstrap))
    for value in VALUES:
        producer.produce(name, value)
    expect(producer.flush(30), 0, "messages left after flush")
    consumer = Consumer(confluent_options(bootstrap, **{
        "group.id": "confluent", "auto.offset.reset": "earliest"}))
    consumer.subscribe([name])
    seen, give_up = [], time.monotonic() + 40
    while len(seen) < len(VALUES):
        assert time.monotonic() < give_up, f"{len(seen)} records after 40 s"
        message = consumer.poll(1)
        if message is not None:
            assert message.error() is None, message.error()
            seen.append(message.value())
    expect(seen, VALUES, "records")
    consumer.close()


def confluent_kafka_refused(bootstrap):
    from confluent_kafka import KafkaError, Producer

    errors = []
    producer = Producer(confluent_options(bootstrap, error_cb=errors.append))
    producer.produce(topic("confluent"), b"never")
    give_up = time.monotonic() + TOLD_WITHIN_S
    refusals = []
    while not refusals:
        assert time.monotonic() < give_up, f"not told: {errors}"
        producer.poll(0.5)
        refusals = [e for e in errors if e.code() == KafkaError._AUTHENTICATION]
    assert "invalid credentials" in refusals[0].str(), refusals[0].str()
    producer.purge()


def aiokafka_options(bootstrap):
    from aiokafka.abc import AbstractTokenProvider

    class Bearer(AbstractTokenProvider):
        async def token(self):
            return PASSWORD

    options = {"bootstrap_servers": bootstrap, "security_protocol": PROTOCOL,
               "sasl_mechanism": MECHANISM}
    if MECHANISM == "OAUTHBEARER":
        options["sasl_oauth_token_provider"] = Bearer()
    else:
        options.update({"sasl_plain_username": USER, "sasl_plain_password": PASSWORD})
    return {**options, "ssl_context": ssl.create_default_context(cafile=CA)} if CA else options


async def aiokafka(bootstrap):
    from aiokafka import AIOKafkaConsumer, AIOKafkaProducer

    name = topic("aiokafka")
    producer = AIOKafkaProducer(**aiokafka_options(bootstrap))
    await producer.start()
    for value in VALUES:
        await producer.send_and_wait(name, value)
    await producer.stop()
    consumer = AIOKafkaConsumer(name, group_id="aiokafka", auto_offset_reset="earliest",
                                **aiokafka_options(bootstrap))
    await consumer.start()
    seen = []
    while len(seen) < len(VALUES):
        seen.append((await asyncio.wait_for(consumer.getone(), 40)).value)
    expect(seen, VALUES, "records")
    await consumer.stop()


async def aiokafka_refused(bootstrap):
    from aiokafka import AIOKafkaProducer
    from aiokafka.errors import KafkaError

    # It says that no broker was reached, and logs why.
    told = []
    handler = logging.Handler()
    handler.emit = lambda record: told.append(record.getMessage())
    logging.getLogger("aiokafka").addHandler(handler)
    producer = AIOKafkaProducer(**aiokafka_options(bootstrap))
    try:
        await asyncio.wait_for(producer.start(), TOLD_WITHIN_S)
    except KafkaError:
        pass
    else:
        raise AssertionError("a wrong password was let in")
    finally:
        await producer.stop()
    assert any("invalid credentials" in line for line in told), told


def run(story):
    return lambda bootstrap: asyncio.run(story(bootstrap))


if __name__ == "__main__":
    main({
        "kafka_python": kafka_python,
        "kafka_python_refused": kafka_python_refused,
        "confluent_kafka": confluent_kafka,
        "confluent_kafka_refused": confluent_kafka_refused,
        "aiokafka": run(aiokafka),
        "aiokafka_refused": run(aiokafka_refused),
    })
