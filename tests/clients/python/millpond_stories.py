"""Millpond's own SDK for Python, from its wheel: futures, iteration, groups, transactions, asyncio, and
what its errors say.

Started as `SCRIPT STORY HOST:PORT`; `MILLPOND_CA`, `MILLPOND_USER` and `MILLPOND_PASSWORD` in the
environment let it in, over QUIC and over TLS.
"""

import asyncio
import itertools
import os
import threading

import millpond
from millpond import aio
from story import PATIENCE_S, expect, main

LOGIN = {
    "ca": os.environ["MILLPOND_CA"],
    "user": os.environ["MILLPOND_USER"],
    "password": os.environ["MILLPOND_PASSWORD"],
}
READ = {"offset_reset": "earliest", "fetch_wait": 0.05, **LOGIN}


def values(count):
    return [b"reading %d" % number for number in range(count)]


def produce(url, topic, payloads, **more):
    with millpond.Producer(url, **LOGIN) as producer:
        futures = [producer.send(topic, payload, partition=0, **more) for payload in payloads]
        return [future.result(PATIENCE_S).offset for future in futures]


def transports(bootstrap):
    """What is sent is read, over QUIC, over TLS, and by the way that the SDK chooses."""
    for scheme in ("quic", "tls", "millpond"):
        url, told = f"{scheme}://{bootstrap}", []
        with millpond.Producer(url, compression="zstd", linger=0.005, buffer_bytes=8192, **LOGIN) as producer:
            futures = []
            for payload in values(500):
                future = producer.send(scheme, payload, key="pump", headers={"unit": b"C", "none": None})
                future.add_done_callback(lambda done: told.append(done.result().offset))
                futures.append(future)
            producer.flush(PATIENCE_S)
            expect([future.result(0).offset for future in futures], list(range(500)), "offsets")
            expect(sorted(told), list(range(500)), "callbacks")
            expect(producer.metrics().delivered, 500, "the count")
        with millpond.Consumer(url, topics=[scheme], **READ) as consumer:
            read = list(itertools.islice(consumer, 500))
        expect([message.value for message in read], values(500), f"values over {scheme}")
        expect(read[7].key, b"pump", "the key")
        expect(read[7].headers, (("unit", b"C"), ("none", None)), "the headers")
        assert read[7].timestamp_ms > 1_600_000_000_000, read[7]


def groups(bootstrap):
    """A commit covers what was handed out, and nothing of the batch behind it."""
    url = f"quic://{bootstrap}"
    produce(url, "line", values(100))
    place = ("line", 0)
    with millpond.Consumer(url, topics=["line"], group="g", **READ) as consumer:
        for message in consumer:
            if message.offset == 41:
                break
        consumer.commit()
        expect(consumer.committed([place]), {place: 42}, "committed")
        expect(consumer.position(*place), 42, "the position")
        expect(next(iter(consumer)).offset, 42, "what comes next")
        consumer.seek_to_beginning()
        expect(consumer.poll(PATIENCE_S)[0].offset, 0, "the beginning")
        consumer.seek("line", 0, 99)
        expect([m.offset for m in consumer.poll(PATIENCE_S)], [99], "one before the end")
        consumer.seek_to_time(0)
        consumer.pause([place])
        expect(consumer.poll(0.3), [], "while it is held back")
        consumer.resume([place])
        expect(consumer.poll(PATIENCE_S)[0].offset, 0, "after it")
        consumer.seek_to_end()
        expect(consumer.poll(0.3), [], "the end")
    # The last commit counts, not the last seek.
    with millpond.Consumer(url, topics=["line"], group="g", auto_commit=0.01, **READ) as consumer:
        expect(next(iter(consumer)).offset, 42, "where the next one begins")
        expect(next(iter(consumer)).offset, 43, "and goes on")
    with millpond.Consumer(url, topics=["line"], group="g", **READ) as consumer:
        expect(next(iter(consumer)).offset, 44, "where it begins after auto commit")
        threading.Timer(0.3, consumer.close).start()
        expect(sum(1 for _ in consumer), 55, "the rest, until it is closed")


def transactions(bootstrap):
    """What is sent on and how far was read count together, or not at all."""
    url = f"quic://{bootstrap}"
    produce(url, "orders", values(10))
    with millpond.Producer(url, transactional_id="mover", **LOGIN) as producer, \
            millpond.Consumer(url, topics=["orders"], group="movers", **READ) as consumer:
        try:
            with producer.transaction() as transaction:
                for message in consumer.poll(PATIENCE_S):
                    transaction.send("booked", message.value)
                transaction.send_offsets(consumer)
                raise KeyError("something else")
        except KeyError:
            pass
        expect(consumer.committed([("orders", 0)]), {}, "after the abort")
        consumer.seek_to_beginning()
        with producer.transaction() as transaction:
            for message in consumer.poll(PATIENCE_S):
                transaction.send("booked", message.value)
            transaction.send_offsets(consumer)
        expect(consumer.committed([("orders", 0)]), {("orders", 0): 10}, "after the commit")
        with millpond.Producer(url, transactional_id="mover", **LOGIN) as second:
            with second.transaction() as transaction:
                transaction.send("booked", b"of the second")
            try:
                with producer.transaction() as transaction:
                    transaction.send("booked", b"of the first")
                raise AssertionError("two have one transactional id")
            except (millpond.Fenced, millpond.Spoilt):
                pass
    with millpond.Consumer(url, topics=["booked"], read_committed=True, **READ) as reader:
        read = [message.value for message in itertools.islice(reader, 11)]
        expect(read, values(10) + [b"of the second"], "what counts")
        expect(reader.poll(0.3), [], "and nothing else")


def loop(bootstrap):
    """A gateway's script: producing, consuming and something else in one loop of asyncio."""
    asyncio.run(asyncio.wait_for(both(f"quic://{bootstrap}"), PATIENCE_S))


async def both(url):
    running, is_watched, turns = asyncio.get_running_loop(), True, 0

    # Nobody waits for it: it counts how often the loop was free while others waited.
    def turn():
        nonlocal turns
        turns += 1
        if is_watched:
            running.call_later(0.01, turn)

    turn()
    async with aio.Producer(url, transactional_id="aio", **LOGIN) as producer, \
            aio.Consumer(url, topics=["loop"], group="aio", read_committed=True, **READ) as consumer:
        async with producer.transaction() as transaction:
            for payload in values(50):
                await transaction.send("loop", payload)
        read = []
        async for message in consumer:
            read.append(message.value)
            if len(read) == 50:
                break
        expect(read, values(50), "values")
        await consumer.commit()
        expect(await consumer.poll(0.2), [], "nothing more")
        expect(consumer.sync.committed([("loop", 0)]), {("loop", 0): 50}, "committed")
    async with aio.Producer(url, **LOGIN) as producer:
        delivery = await producer.send("loop", b"one more", key=b"k")
        # A transaction's end stands between.
        expect((delivery.topic, delivery.partition, delivery.offset), ("loop", 0, 51), "the delivery")
    is_watched = False
    assert turns > 10, f"the loop stood still: it had {turns} turns"


def expect_raises(kind, act, *words):
    try:
        act()
    except kind as error:
        for word in words:
            assert word in str(error), f"{word!r} is not in {error}"
        return error
    raise AssertionError(f"no {kind.__name__}")


def errors(bootstrap):
    """Errors have a kind, the broker's code, and words that help."""
    url = f"quic://{bootstrap}"
    expect_raises(millpond.ConfigError, lambda: millpond.Producer("gopher://x"), "quic://")
    expect_raises(millpond.ConfigError, lambda: millpond.Producer(url, compression="zip"), "compression")
    expect_raises(ValueError, lambda: millpond.Consumer(url, topics=["a"], partitions=[("a", 0)]), "either")
    wrong = dict(LOGIN, password="a wrong one")
    with millpond.Producer(url, delivery_timeout=2, **wrong) as producer:
        refused = expect_raises(
            millpond.NotDelivered, lambda: producer.send("t", b"x").result(PATIENCE_S), "refused")
        assert "a wrong one" not in str(refused) and not isinstance(refused, millpond.InDoubt)
        expect_raises(millpond.ConfigError, lambda: producer.transaction().__enter__(), "transactional_id")
    expect_raises(millpond.Closed, lambda: producer.send("t", b"x"))
    with millpond.Consumer(url, topics=["t"], **dict(READ, password="a wrong one")) as consumer:
        expect_raises(millpond.BrokerError, lambda: consumer.poll(PATIENCE_S))
    expect_raises(millpond.Closed, lambda: consumer.poll(0))
    produce(url, "t", values(1))
    with millpond.Consumer(url, partitions=[("t", 0)], **READ) as consumer:
        expect(len(consumer.poll(PATIENCE_S)), 1, "messages")
        expect_raises(millpond.ConfigError, consumer.commit, "group")
        error = expect_raises(millpond.BrokerError, lambda: consumer.seek("t", 5, 0), "t/5")
        assert error.is_retriable
    with millpond.Producer("quic://127.0.0.1:1", delivery_timeout=0.5, **LOGIN) as producer:
        expect_raises(millpond.NotDelivered, lambda: producer.send("t", b"x").result(PATIENCE_S))


if __name__ == "__main__":
    main({
        "transports": transports,
        "groups": groups,
        "transactions": transactions,
        "loop": loop,
        "errors": errors,
    })
