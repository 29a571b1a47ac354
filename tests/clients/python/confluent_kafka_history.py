"""librdkafka, under load, writing down all that it does and is told, for the checker.

    confluent_kafka_history.py ROLE HOST:PORT FILE NAME SEED

Roles: `feed` writes to topic `source`, idempotently; `mill` moves records from `source` to `target`
in transactions with its group's offsets; `read` follows `target` as a member of a group of the new
protocol (KIP-848) and commits what it was given. Each runs until it is killed, now and then by
itself. FILE gets one JSON object a line (`tests/src/checker/event.rs` says what is in it); what may
happen is written before it is tried, so that a death leaves nothing untold.
"""

import json
import os
import random
import select
import signal
import sys
import threading
import time

from confluent_kafka import Consumer, KafkaError, KafkaException, Producer, TopicPartition

PARTITIONS = 3
GROUP, READERS = "mill", "readers"


# What its users set who have one broker: by default librdkafka 2.16 gives up a broker that it cannot
# reach and learns of it anew (KIP-899), upon which transactions that are under way hang for ever.
COMMON = {"metadata.recovery.strategy": "none", "reconnect.backoff.max.ms": 200}


class Diary:
    def __init__(self, path, name):
        self._file, self._name = open(path, "a", encoding="utf-8"), name

    def note(self, begin, op, **fields):
        event = {"client": self._name, "begin": begin, "end": time.time_ns(), "op": op, **fields}
        self._file.write(json.dumps(event) + "\n")
        self._file.flush()


class Ending:
    """Whether the run is over: SIGTERM says so."""

    def __init__(self):
        self.has_come = False
        signal.signal(signal.SIGTERM, self._come)

    def _come(self, *_):
        self.has_come = True


ENDING = Ending()


def die():
    os.kill(os.getpid(), signal.SIGKILL)


def die_with(parent):
    """A test that was ended leaves nobody behind, also none that waits for a broker for ever."""
    select.select([os.pidfd_open(parent)], [], [])
    die()


class Polls:
    """What a consumer was given, and where it stands, partition by partition."""

    def __init__(self, diary, consumer, group):
        self._diary, self._consumer, self._group = diary, consumer, group
        self._next = {}

    def forget(self, _, partitions):
        """Somebody else may have had these, or has them now."""
        for one in partitions:
            self._next.pop((one.topic, one.partition), None)

    def take(self, most):
        """Some messages, which are noted as polls."""
        begin, found = time.time_ns(), {}
        for message in self._consumer.consume(most, timeout=0.2):
            if message.error() is None:
                found.setdefault((message.topic(), message.partition()), []).append(message)
        for (topic, partition), messages in found.items():
            start = self._next.get((topic, partition), messages[0].offset())
            self._next[topic, partition] = messages[-1].offset() + 1
            self._diary.note(
                begin, "poll", topic=topic, partition=partition, committed=True,
                next=messages[-1].offset() + 1, group=self._group,
                records=[[m.offset(), m.value().decode()] for m in messages],
                **{"from": start})
        return found


def consumer_of(bootstrap, group, **more):
    return Consumer({
        "bootstrap.servers": bootstrap, "group.id": group, "isolation.level": "read_committed",
        "enable.auto.commit": False, "auto.offset.reset": "earliest", "fetch.wait.max.ms": 50,
        **COMMON, **more})


def feed(bootstrap, diary, name, dice):
    producer = Producer({
        "bootstrap.servers": bootstrap, "enable.idempotence": True, "linger.ms": 2,
        "message.timeout.ms": 60_000, **COMMON})
    run, count = time.time_ns(), 0
    while not ENDING.has_come:
        begin = time.time_ns()

        def told(error, message, begin=begin):
            outcome = {} if error else {"offset": message.offset()}
            diary.note(begin, "send", topic="source", partition=message.partition(),
                       value=message.value().decode(),
                       outcome="unknown" if error else "ok", **outcome)

        for _ in range(dice.randint(1, 20)):
            count += 1
            producer.produce("source", f"{name}-{run}-{count}".encode(),
                             partition=dice.randrange(PARTITIONS), on_delivery=told)
        producer.poll(0.02)
        if dice.random() < 0.1:
            producer.flush(30)
    producer.flush(30)


def read(bootstrap, diary, _name, dice):
    consumer = consumer_of(bootstrap, READERS, **{"group.protocol": "consumer"})
    polls = Polls(diary, consumer, READERS)
    pending = {}

    def forget(_, partitions):
        polls.forget(_, partitions)
        for one in partitions:
            pending.pop((one.topic, one.partition), None)

    consumer.subscribe(["target"], on_assign=forget, on_revoke=forget, on_lost=forget)
    while not ENDING.has_come:
        for place, messages in polls.take(dice.randint(1, 100)).items():
            pending[place] = messages[-1].offset() + 1
        # It leaves, and does not just die: the broker misses such a member after 45 s only.
        if dice.random() < 0.002:
            break
        if pending and dice.random() < 0.7:
            offsets = [TopicPartition(*place, at) for place, at in pending.items()]
            if commit(diary, consumer, offsets):
                pending.clear()
    consumer.close()


def commit(diary, consumer, offsets):
    begin = time.time_ns()

    def note(one, outcome):
        diary.note(begin, "commit", group=READERS, topic=one.topic, partition=one.partition,
                   offset=one.offset, outcome=outcome)

    for one in offsets:
        note(one, "unknown")
    try:
        answered = consumer.commit(offsets=offsets, asynchronous=False)
    except KafkaException:
        return False  # It may have arrived, or not.
    done = [one for one in answered if one.error is None]
    for one in done:
        note(one, "ok")
    return len(done) == len(offsets)


class Mill:
    def __init__(self, bootstrap, diary, name, dice):
        self._diary, self._name, self._dice = diary, name, dice
        self._consumer = consumer_of(bootstrap, GROUP, **{
            "session.timeout.ms": 6_000, "heartbeat.interval.ms": 300})
        self._polls = Polls(diary, self._consumer, GROUP)
        self._consumer.subscribe(["source"], on_assign=self._polls.forget)
        self._instance, self._count = time.time_ns(), 0
        self._producer = Producer({
            "bootstrap.servers": bootstrap, "transactional.id": name, "linger.ms": 1,
            "transaction.timeout.ms": 10_000, **COMMON})
        begin = time.time_ns()
        self._insist(self._producer.init_transactions)
        diary.note(begin, "init", id=name, instance=self._instance)

    def close(self):
        self._consumer.close()

    def _insist(self, call, *arguments):
        while True:
            try:
                return call(*arguments)
            except KafkaException as error:
                if not error.args[0].retriable():
                    raise

    def turn(self):
        found = self._polls.take(self._dice.randint(1, 50))
        if not found:
            return
        self._count += 1
        txn = f"{self._name}.{self._instance}.{self._count}"
        self._producer.begin_transaction()
        try:
            self._fill(txn, found)
        except KafkaException as error:
            if not error.args[0].txn_requires_abort():
                raise
            self._abort(txn)

    def _fill(self, txn, found):
        begin, offsets = time.time_ns(), []
        for (topic, partition), messages in found.items():
            for message in messages:
                self._send(txn, begin, message)
            offsets.append(TopicPartition(topic, partition, messages[-1].offset() + 1))
        if self._dice.random() < 0.001:
            die()
        self._insist(self._producer.send_offsets_to_transaction, offsets,
                     self._consumer.consumer_group_metadata())
        self._insist(self._producer.flush, 30)
        if self._dice.random() < 0.15:
            return self._abort(txn)
        for outcome in ("unknown", "ok"):
            if outcome == "ok":
                self._insist(self._producer.commit_transaction)
            self._note_end(txn, begin, True, outcome)
            for one in offsets:
                self._diary.note(begin, "commit", group=GROUP, topic=one.topic,
                                 partition=one.partition, offset=one.offset, outcome=outcome)

    def _send(self, txn, begin, source):
        value = f"{txn}/{source.partition()}/{source.offset()}"
        where = {"group": GROUP, "topic": source.topic(), "partition": source.partition(),
                 "offset": source.offset()}

        def told(error, message):
            outcome = {"outcome": "unknown"} if error else {
                "outcome": "ok", "offset": message.offset()}
            self._diary.note(begin, "send", topic="target", partition=message.partition(),
                             value=value, txn=txn, source=where, **outcome)

        partition = self._dice.randrange(PARTITIONS)
        while True:
            try:
                return self._producer.produce(
                    "target", value.encode(), partition=partition, on_delivery=told)
            except KafkaException as error:
                # It has not made itself at home in the topic yet.
                if error.args[0].code() != KafkaError._UNKNOWN_PARTITION:
                    raise
                self._producer.poll(0.05)

    def _abort(self, txn):
        begin = time.time_ns()
        self._insist(self._producer.abort_transaction)
        self._note_end(txn, begin, False, "ok")
        # It goes on where the group is.
        own = self._consumer.assignment()
        self._polls.forget(None, own)
        for one in self._consumer.committed(own, timeout=30):
            one.offset = max(one.offset, 0)
            self._consumer.seek(one)

    def _note_end(self, txn, begin, is_commit, outcome):
        self._diary.note(begin, "endtxn", id=self._name, instance=self._instance, txn=txn,
                         commit=is_commit, outcome=outcome)


def mill(bootstrap, diary, name, dice):
    one = Mill(bootstrap, diary, name, dice)
    while not ENDING.has_come:
        one.turn()
    one.close()


def main():
    role, bootstrap, path, name, seed = sys.argv[1:]
    threading.Thread(target=die_with, args=[os.getppid()], daemon=True).start()
    diary = Diary(path, name)
    {"feed": feed, "read": read, "mill": mill}[role](bootstrap, diary, name, random.Random(int(seed)))


if __name__ == "__main__":
    main()
