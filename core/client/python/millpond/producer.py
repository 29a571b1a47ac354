"""A producer: records out, a future for each, and transactions."""

from __future__ import annotations

import contextlib
import ctypes
import dataclasses
import itertools
import threading
import time
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any, Callable, Dict, Iterator, Mapping, Optional, Union

from . import _native, errors
from ._scope import Closing
from ._settings import Path, Value, login, settings

if TYPE_CHECKING:
    from .consumer import Consumer

Headers = Mapping[str, Optional[bytes]]
Payload = Union[bytes, str, None]

_REPORTS = 64


@dataclasses.dataclass(frozen=True)
class Delivery:
    """Where a record stands."""

    topic: str
    #: -1 with a spill, which has not asked the broker yet.
    partition: int
    #: ``None`` where there is none to tell: with a spill, or where a transform changed the record.
    offset: Optional[int]
    timestamp_ms: int


@dataclasses.dataclass(frozen=True)
class Metrics:
    """Numbers so far."""

    accepted: int
    delivered: int
    failed: int
    waiting: int


class Producer(Closing):
    """Sends records. Any number of threads may use one.

    >>> with Producer("millpond://10.0.0.1:9092", fingerprint="9F:86:...") as producer:
    ...     delivery = producer.send("telemetry", b"21.5", key=b"device-7").result(timeout=30)
    """

    def __init__(
        self,
        bootstrap: str,
        *,
        fingerprint: Optional[str] = None,
        ca: Optional[Path] = None,
        ca_pem: Optional[str] = None,
        certificate: Optional[Path] = None,
        private_key: Optional[Path] = None,
        user: Optional[str] = None,
        password: Optional[str] = None,
        mechanism: Optional[str] = None,
        client_id: Optional[str] = None,
        compression: Optional[str] = None,
        linger: Optional[float] = None,
        batch_bytes: Optional[int] = None,
        buffer_bytes: Optional[int] = None,
        delivery_timeout: Optional[float] = None,
        connect_timeout: Optional[float] = None,
        transactional_id: Optional[str] = None,
        transaction_timeout: Optional[float] = None,
        spill_dir: Optional[Path] = None,
        spill_bytes: Optional[int] = None,
        spill_full: Optional[str] = None,
    ) -> None:
        given: Dict[str, Value] = {
            "fingerprint": fingerprint,
            "ca": ca,
            "ca_pem": ca_pem,
            "certificate": certificate,
            "private_key": private_key,
            **login(user, password, mechanism),
            "client_id": client_id,
            "compression": compression,
            "linger": linger,
            "batch_bytes": batch_bytes,
            "buffer_bytes": buffer_bytes,
            "delivery_timeout": delivery_timeout,
            "connect_timeout": connect_timeout,
            "transactional_id": transactional_id,
            "transaction_timeout": transaction_timeout,
            "spill_dir": spill_dir,
            "spill_bytes": spill_bytes,
            "spill_full": spill_full,
        }
        self._handle = _native.new("producer", settings(bootstrap, given))
        self._tags = itertools.count(1)
        self._change = threading.Condition()
        self._waiting: Dict[int, "tuple[str, Future[Delivery]]"] = {}
        self._is_ending = False
        self._thread = threading.Thread(target=self._deliver, name="millpond-deliveries", daemon=True)
        self._thread.start()

    def send(
        self,
        topic: str,
        value: Payload,
        *,
        key: Payload = None,
        headers: Optional[Headers] = None,
        partition: Optional[int] = None,
        timestamp_ms: Optional[int] = None,
        timeout: Optional[float] = None,
    ) -> "Future[Delivery]":
        """Takes a record and returns at once, or waits up to ``timeout`` seconds for room.

        The future brings a :class:`Delivery`, or raises :class:`NotDelivered` (sending again is safe) or
        :class:`InDoubt`. Its ``add_done_callback`` is called in the thread of deliveries: it must not
        block, nor close the producer.
        """
        record, _kept = _record(topic, value, key, headers, partition, timestamp_ms)
        deadline = None if timeout is None else time.monotonic() + timeout
        tag, future = next(self._tags), _running()
        with self._change:
            self._waiting[tag] = (topic, future)
        try:
            while True:
                with self._handle.use() as pointer:
                    outcome = _native.lib.mp_send(pointer, ctypes.byref(record), tag)
                if outcome == _native.OK:
                    return future
                left = _native.SLICE if deadline is None else min(_native.SLICE, deadline - time.monotonic())
                if outcome != _native.FULL or left <= 0:
                    _native.check(outcome)
                with self._change:
                    self._change.wait(left)
        except BaseException:
            with self._change:
                self._waiting.pop(tag, None)
            raise

    def flush(self, timeout: Optional[float] = None) -> None:
        """Waits until every record that was sent before has its outcome."""
        with self._change:
            wanted = set(self._waiting)
            done = self._change.wait_for(lambda: wanted.isdisjoint(self._waiting), timeout)
        if not done:
            raise errors.TimedOut("not everything was delivered in time; it goes on")

    def metrics(self) -> Metrics:
        numbers = _native.Metrics()
        with self._handle.use() as pointer:
            _native.check(_native.lib.mp_producer_metrics(pointer, ctypes.byref(numbers)))
        return Metrics(numbers.accepted, numbers.delivered, numbers.failed, numbers.waiting)

    @contextlib.contextmanager
    def transaction(self, timeout: float = 60) -> Iterator["Transaction"]:
        """Commits what is sent within it at its end, or aborts if that is left by an exception.

        The producer needs a ``transactional_id``.
        """
        self._step("begin", timeout)
        transaction = Transaction(self, timeout)
        try:
            yield transaction
            self._step("commit", timeout)
        except errors.Fenced:
            # The broker has ended it.
            raise
        except BaseException:
            # What was wrong is more telling than what is wrong with the abort.
            with contextlib.suppress(errors.MillpondError):
                self._step("abort", timeout)
            raise

    def _step(self, name: str, timeout: float) -> None:
        function = getattr(_native.lib, f"mp_transaction_{name}")

        def call(pointer: int, ms: int, error: Any) -> int:
            return int(function(pointer, ms, error))

        self._patient(call, timeout)

    def _patient(self, call: Callable[[int, int, Any], int], timeout: float) -> None:
        """Calls again and again: the library goes on by itself, and Ctrl-C is noticed."""
        deadline = time.monotonic() + timeout
        while True:
            error = _native.Error()
            left = deadline - time.monotonic()
            ms = _native.milliseconds(max(0.0, min(left, _native.SLICE)))
            with self._handle.use() as pointer:
                outcome = call(pointer, ms, ctypes.byref(error))
            if outcome != _native.TIMED_OUT or left <= 0:
                return _native.check(outcome, error)

    def close(self, timeout: Optional[float] = 30) -> None:
        """Flushes for up to ``timeout`` seconds and ends. What has no outcome by then is in doubt."""
        if self._handle.is_closed:
            return
        if threading.current_thread() is self._thread:
            raise errors.ConfigError("close it outside of a delivery's callback")
        try:
            self.flush(timeout)
        finally:
            self._is_ending = True
            self._thread.join()
            self._handle.close()
            with self._change:
                left, self._waiting = self._waiting, {}
                self._change.notify_all()
            for _, future in left.values():
                future.set_exception(errors.InDoubt("the producer was closed before it was delivered"))

    def _deliver(self) -> None:
        reports = (_native.Report * _REPORTS)()
        ms = _native.milliseconds(_native.SLICE)
        while not self._is_ending:
            try:
                with self._handle.use() as pointer:
                    _native.lib.mp_wait(pointer, ms)
                    count = _native.lib.mp_poll(pointer, reports, _REPORTS)
            except errors.Closed:
                return
            for at in range(count):
                self._settle(reports[at])
            if count:
                with self._change:
                    self._change.notify_all()

    def _settle(self, report: Any) -> None:
        with self._change:
            topic, future = self._waiting.get(report.tag, ("", None))
        if future is None:
            return
        if report.status == _native.DELIVERED:
            offset = None if report.offset < 0 else report.offset
            future.set_result(Delivery(topic, report.partition, offset, report.timestamp_ms))
        else:
            kind = errors.InDoubt if report.status == _native.IN_DOUBT else errors.NotDelivered
            future.set_exception(kind(_native.text(report.error), code=report.code))
        # After the callbacks: who has flushed finds them done.
        with self._change:
            self._waiting.pop(report.tag, None)


class Transaction:
    """What counts together; made by :meth:`Producer.transaction`."""

    def __init__(self, producer: Producer, timeout: float) -> None:
        self._producer, self._timeout = producer, timeout

    def send(
        self,
        topic: str,
        value: Payload,
        *,
        key: Payload = None,
        headers: Optional[Headers] = None,
        partition: Optional[int] = None,
        timestamp_ms: Optional[int] = None,
    ) -> "Future[Delivery]":
        """As of :meth:`Producer.send`. The delivery need not be waited for: the commit does."""
        return self._producer.send(
            topic, value, key=key, headers=headers, partition=partition, timestamp_ms=timestamp_ms
        )

    def send_offsets(self, consumer: "Consumer") -> None:
        """Makes part of it how far the consumer has come, instead of its own ``commit``."""
        places = consumer._uncommitted()  # noqa: SLF001
        if not places:
            return
        array = _native.c_places(places)

        with consumer._handle.use() as reader:  # noqa: SLF001

            def call(pointer: int, ms: int, error: Any) -> int:
                step = _native.lib.mp_transaction_offsets
                return int(step(pointer, reader, array, len(places), ms, error))

            self._producer._patient(call, self._timeout)  # noqa: SLF001


def _running() -> "Future[Delivery]":
    future: "Future[Delivery]" = Future()
    # It cannot be taken back any more.
    future.set_running_or_notify_cancel()
    return future


def _bytes(payload: Payload) -> Optional[bytes]:
    return payload.encode() if isinstance(payload, str) else payload


def _record(
    topic: str,
    value: Payload,
    key: Payload,
    headers: Optional[Headers],
    partition: Optional[int],
    timestamp_ms: Optional[int],
) -> "tuple[_native.Record, list[bytes]]":
    """The record, and what it points to."""
    raw_key, raw_value = _bytes(key), _bytes(value)
    record = _native.Record(topic=topic.encode())
    record.key, record.key_bytes = raw_key, len(raw_key or b"")
    record.value, record.value_bytes = raw_value, len(raw_value or b"")
    record.partition = -1 if partition is None else partition
    record.timestamp_ms = -1 if timestamp_ms is None else timestamp_ms
    kept = [part for part in (raw_key, raw_value) if part is not None]
    if headers:
        array = (_native.Header * len(headers))()
        for slot, (name, content) in zip(array, headers.items()):
            slot.name = name.encode()
            if content is not None:
                kept.append(content)
                slot.value = ctypes.cast(ctypes.c_char_p(content), ctypes.c_void_p)
                slot.value_bytes = len(content)
        record.headers, record.header_count = array, len(headers)
    return record, kept
