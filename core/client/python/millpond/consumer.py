"""A consumer: records in, one by one or in batches, and what its group remembers."""

from __future__ import annotations

import collections
import ctypes
import dataclasses
import threading
import time
from typing import Any, Deque, Dict, Iterable, Iterator, List, Mapping, Optional, Sequence, Tuple

from . import _native, errors
from ._scope import Closing
from ._settings import Path, Value, login, settings

#: A topic and a partition.
Partition = Tuple[str, int]

_BEGINNING = -2
_END = -1


@dataclasses.dataclass(frozen=True)
class Message:
    """A record as it was read."""

    topic: str
    partition: int
    offset: int
    #: Milliseconds since 1970.
    timestamp_ms: int
    key: Optional[bytes]
    #: ``None`` is a tombstone.
    value: Optional[bytes]
    headers: Tuple[Tuple[str, Optional[bytes]], ...]


class Consumer(Closing):
    """Reads records, and stays in its group by itself between two of them. For one thread at a time.

    >>> with Consumer("millpond://10.0.0.1:9092", topics=["telemetry"], group="dashboards",
    ...               fingerprint="9F:86:...") as consumer:
    ...     for message in consumer:
    ...         print(message.value)
    ...         consumer.commit()

    ``commit`` remembers what was handed out so far, and nothing of what still waits in a batch.
    """

    def __init__(
        self,
        bootstrap: str,
        *,
        topics: Sequence[str] = (),
        partitions: Sequence[Partition] = (),
        group: Optional[str] = None,
        group_protocol: Optional[str] = None,
        offset_reset: Optional[str] = None,
        read_committed: Optional[bool] = None,
        auto_commit: Optional[float] = None,
        max_poll_records: Optional[int] = None,
        fetch_wait: Optional[float] = None,
        rebalance_timeout: Optional[float] = None,
        fingerprint: Optional[str] = None,
        ca: Optional[Path] = None,
        ca_pem: Optional[str] = None,
        certificate: Optional[Path] = None,
        private_key: Optional[Path] = None,
        user: Optional[str] = None,
        password: Optional[str] = None,
        mechanism: Optional[str] = None,
        client_id: Optional[str] = None,
        connect_timeout: Optional[float] = None,
    ) -> None:
        given: Dict[str, Value] = {
            "group": group,
            "group_protocol": group_protocol,
            "offset_reset": offset_reset,
            "read_committed": read_committed,
            "auto_commit": auto_commit,
            "max_poll_records": max_poll_records,
            "fetch_wait": fetch_wait,
            "rebalance_timeout": rebalance_timeout,
            "fingerprint": fingerprint,
            "ca": ca,
            "ca_pem": ca_pem,
            "certificate": certificate,
            "private_key": private_key,
            **login(user, password, mechanism),
            "client_id": client_id,
            "connect_timeout": connect_timeout,
        }
        self._handle = _native.new("consumer", settings(bootstrap, given))
        self._closing = threading.Lock()
        #: Came with a batch, not handed out yet.
        self._waiting: Deque[Message] = collections.deque()
        #: The next offset after what was handed out, where that is not committed yet.
        self._handed: Dict[Partition, int] = {}
        try:
            if topics and partitions:
                raise errors.ConfigError("give either topics or partitions")
            if topics:
                self.subscribe(topics)
            elif partitions:
                self.assign(partitions)
        except BaseException:
            self._handle.close()
            raise

    def subscribe(self, topics: Sequence[str]) -> None:
        """Reads these topics from now on, shared with the group if there is one."""
        names = (ctypes.c_char_p * len(topics))(*(topic.encode() for topic in topics))
        self._waiting.clear()
        self._handed.clear()
        self._call(_native.lib.mp_subscribe, names, len(topics))

    def assign(self, partitions: Sequence[Partition]) -> None:
        """Reads these partitions from now on, without a group."""
        self._waiting.clear()
        self._handed.clear()
        self._on(_native.lib.mp_assign, partitions)

    def poll(self, timeout: Optional[float] = None) -> List[Message]:
        """The next messages as soon as there are any; none after ``timeout`` seconds."""
        if not self._waiting:
            self._fill(timeout)
        messages = list(self._waiting)
        self._waiting.clear()
        for message in messages:
            self._hand(message)
        return messages

    def __iter__(self) -> Iterator[Message]:
        """Without an end, until it is closed."""
        while True:
            if not self._waiting:
                try:
                    self._fill(None)
                except errors.Closed:
                    return
            while self._waiting:
                message = self._waiting.popleft()
                self._hand(message)
                yield message

    def commit(self, timeout: float = 30) -> None:
        """Remembers for the group what was handed out so far.

        What has moved to another member meanwhile is left out: that one reads it again.
        """
        places = self._uncommitted()
        if places:
            array = _native.c_places(places)
            ms = _native.milliseconds(timeout)
            self._call(_native.lib.mp_commit, array, len(places), ms)
        self._handed.clear()

    def seek(self, topic: str, partition: int, offset: int) -> None:
        """Goes to an offset of a partition that is read here."""
        self._go([(topic, partition, offset)])

    def seek_to_beginning(self, partitions: Optional[Iterable[Partition]] = None) -> None:
        """Goes to the oldest records, of all partitions unless some are named."""
        self._go([(topic, number, _BEGINNING) for topic, number in self._these(partitions)])

    def seek_to_end(self, partitions: Optional[Iterable[Partition]] = None) -> None:
        """Goes past the newest records, of all partitions unless some are named."""
        self._go([(topic, number, _END) for topic, number in self._these(partitions)])

    def seek_to_time(
        self, timestamp_ms: int, partitions: Optional[Iterable[Partition]] = None
    ) -> None:
        """Goes to the first records at or after a time (ms since 1970), else to the end."""
        these = self._these(partitions)
        if these:
            self._drop(these)
            ms = _native.milliseconds(30)
            self._on(_native.lib.mp_seek_time, these, timestamp_ms, ms)

    def pause(self, partitions: Iterable[Partition]) -> None:
        """Holds partitions back while the others flow."""
        these = list(partitions)
        waiting = self._first_waiting()
        self._on(_native.lib.mp_pause, these)
        # What came already and was not handed out comes again afterwards.
        self._go([(*place, waiting[place]) for place in these if place in waiting])

    def resume(self, partitions: Iterable[Partition]) -> None:
        """Lets partitions flow again."""
        self._on(_native.lib.mp_resume, list(partitions))

    def assignment(self) -> List[Partition]:
        """The partitions that are read here now."""
        return [(topic, number) for topic, number, _ in self._positions()]

    def position(self, topic: str, partition: int) -> Optional[int]:
        """The offset that is handed out next of a partition, once that is known."""
        waiting = self._first_waiting()
        if (topic, partition) in waiting:
            return waiting[topic, partition]
        for at, number, offset in self._positions():
            if (at, number) == (topic, partition):
                return None if offset < 0 else offset
        return None

    def committed(self, partitions: Iterable[Partition], timeout: float = 30) -> Dict[Partition, int]:
        """What the group has committed; a partition of which nothing is committed is left out."""
        these = [(topic, number, 0) for topic, number in partitions]
        array, ms = _native.c_places(these), _native.milliseconds(timeout)
        found = self._listed(_native.lib.mp_committed, array, len(these), ms)
        return {(topic, number): offset for topic, number, offset in found if offset >= 0}

    def close(self, timeout: float = 30) -> None:
        """Commits (with ``auto_commit``) and leaves the group, so that the others go on at once.

        Another thread may do so: who iterates comes to an end then.
        """
        with self._closing:
            if not self._handle.is_closed:
                try:
                    self._leave(timeout)
                finally:
                    self._handle.close()

    def _leave(self, timeout: float) -> None:
        # What was not handed out is not done.
        self._go(self._still_mine(self._first_waiting()))
        self._call(_native.lib.mp_consumer_close, _native.milliseconds(timeout))

    def fileno(self) -> int:
        """Readable while :meth:`poll` would return something; for ``select`` and its kind."""
        with self._handle.use() as pointer:
            return int(_native.lib.mp_consumer_fd(pointer))

    def _hand(self, message: Message) -> None:
        self._handed[message.topic, message.partition] = message.offset + 1

    def _uncommitted(self) -> List[_native.Place]:
        """What was handed out, of the partitions that are still read here."""
        return self._still_mine(self._handed)

    def _still_mine(self, offsets: Mapping[Partition, int]) -> List[_native.Place]:
        mine = set(self.assignment()) if offsets else set()
        return [(*place, offset) for place, offset in offsets.items() if place in mine]

    def _first_waiting(self) -> Dict[Partition, int]:
        """The first offset of each partition that came and was not handed out."""
        first: Dict[Partition, int] = {}
        # A copy: who closes may be another thread.
        for message in list(self._waiting):
            first.setdefault((message.topic, message.partition), message.offset)
        return first

    def _fill(self, timeout: Optional[float]) -> None:
        deadline = None if timeout is None else time.monotonic() + timeout
        while True:
            left = _native.SLICE if deadline is None else max(0.0, deadline - time.monotonic())
            batch, error = ctypes.c_void_p(), _native.Error()
            ms = _native.milliseconds(min(left, _native.SLICE))
            with self._handle.use() as pointer:
                outcome = _native.lib.mp_consumer_poll(
                    pointer, ms, ctypes.byref(batch), ctypes.byref(error)
                )
            if outcome == _native.OK:
                self._waiting.extend(_messages(batch))
                return
            if outcome != _native.TIMED_OUT:
                _native.check(outcome, error)
            if deadline is not None and time.monotonic() >= deadline:
                return

    def _go(self, places: List[_native.Place]) -> None:
        if places:
            self._drop([(topic, number) for topic, number, _ in places])
            array = _native.c_places(places)
            self._call(_native.lib.mp_seek, array, len(places), _native.milliseconds(30))

    def _drop(self, partitions: Sequence[Partition]) -> None:
        """Forgets what came of partitions and was not handed out."""
        gone = set(partitions)
        kept = (m for m in self._waiting if (m.topic, m.partition) not in gone)
        self._waiting = collections.deque(kept)

    def _these(self, partitions: Optional[Iterable[Partition]]) -> List[Partition]:
        return self.assignment() if partitions is None else list(partitions)

    def _positions(self) -> List[_native.Place]:
        return self._listed(_native.lib.mp_positions)

    def _listed(self, function: Any, *arguments: Any) -> List[_native.Place]:
        places = ctypes.c_void_p()
        self._call(function, *arguments, ctypes.byref(places))
        return _native.take_places(places)

    def _on(self, function: Any, partitions: Sequence[Partition], *more: int) -> None:
        array = _native.c_places([(topic, number, 0) for topic, number in partitions])
        self._call(function, array, len(partitions), *more)

    def _call(self, function: Any, *arguments: Any) -> None:
        error = _native.Error()
        with self._handle.use() as pointer:
            outcome = function(pointer, *arguments, ctypes.byref(error))
        _native.check(outcome, error)


def _messages(batch: ctypes.c_void_p) -> List[Message]:
    """Copies of what a batch holds, which is freed."""
    try:
        count = _native.lib.mp_batch_count(batch)
        found = _native.lib.mp_batch_messages(batch)
        return [_message(found[at]) for at in range(count)]
    finally:
        _native.lib.mp_batch_free(batch)


def _message(found: Any) -> Message:
    headers = (found.headers[at] for at in range(found.header_count))
    return Message(
        topic=_native.text(found.topic),
        partition=found.partition,
        offset=found.offset,
        timestamp_ms=found.timestamp_ms,
        key=_native.part(found.key, found.key_bytes),
        value=_native.part(found.value, found.value_bytes),
        headers=tuple((_native.text(h.name), _native.part(h.value, h.value_bytes)) for h in headers),
    )
