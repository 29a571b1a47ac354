"""The C library as ctypes sees it: a mirror of ``millpond_client.h``, and the only place with pointers.

Every call waits without the interpreter's lock. A handle that is closed is freed only after the last call
on it has come back.
"""

from __future__ import annotations

import contextlib
import ctypes
import math
import os
import pathlib
import threading
from ctypes import POINTER, Structure, c_char, c_char_p, c_int, c_int32, c_int64, c_size_t, c_uint64, c_void_p
from typing import Any, Callable, Dict, Iterator, List, Optional, Sequence, Tuple

from . import errors

OK = 0
FULL = 1
TIMED_OUT = 2
INVALID = 3
CLOSED = 4
UNKNOWN_NAME = 5
BROKEN = 6
REFUSED = 7
SPOILT = 8
FENCED = 9

DELIVERED = 0
FAILED = 1
IN_DOUBT = 2

ERROR_BYTES = 256
#: How many seconds the library is waited for at once, so that Ctrl-C and an end are noticed.
SLICE = 0.25

Place = Tuple[str, int, int]


class Header(Structure):
    _fields_ = [("name", c_char_p), ("value", c_void_p), ("value_bytes", c_size_t)]


class Record(Structure):
    _fields_ = [
        ("topic", c_char_p),
        ("key", c_char_p),
        ("key_bytes", c_size_t),
        ("value", c_char_p),
        ("value_bytes", c_size_t),
        ("partition", c_int32),
        ("timestamp_ms", c_int64),
        ("headers", POINTER(Header)),
        ("header_count", c_size_t),
    ]


class Report(Structure):
    _fields_ = [
        ("tag", c_void_p),
        ("status", c_int32),
        ("partition", c_int32),
        ("offset", c_int64),
        ("timestamp_ms", c_int64),
        ("code", c_int32),
        ("error", c_char * ERROR_BYTES),
    ]


class Metrics(Structure):
    _fields_ = [
        ("accepted", c_uint64),
        ("delivered", c_uint64),
        ("failed", c_uint64),
        ("waiting", c_uint64),
    ]


class Error(Structure):
    _fields_ = [("code", c_int32), ("is_retriable", c_int32), ("text", c_char * ERROR_BYTES)]


class CPlace(Structure):
    _fields_ = [("topic", c_char_p), ("offset", c_int64), ("partition", c_int32)]


class CMessage(Structure):
    _fields_ = [
        ("topic", c_char_p),
        ("key", c_void_p),
        ("key_bytes", c_size_t),
        ("value", c_void_p),
        ("value_bytes", c_size_t),
        ("headers", POINTER(Header)),
        ("header_count", c_size_t),
        ("offset", c_int64),
        ("timestamp_ms", c_int64),
        ("partition", c_int32),
    ]


_PLACES = POINTER(CPlace)
_ERROR = POINTER(Error)
_SIGNATURES: Dict[str, Tuple[Any, List[Any]]] = {
    "mp_config_new": (c_void_p, []),
    "mp_config_set": (c_int, [c_void_p, c_char_p, c_char_p]),
    "mp_config_free": (None, [c_void_p]),
    "mp_producer_new": (c_void_p, [c_void_p, c_char_p, c_size_t]),
    "mp_producer_free": (None, [c_void_p]),
    "mp_send": (c_int, [c_void_p, POINTER(Record), c_void_p]),
    "mp_poll": (c_size_t, [c_void_p, POINTER(Report), c_size_t]),
    "mp_wait": (c_int, [c_void_p, c_int]),
    "mp_producer_metrics": (c_int, [c_void_p, POINTER(Metrics)]),
    "mp_transaction_begin": (c_int, [c_void_p, c_int, _ERROR]),
    "mp_transaction_commit": (c_int, [c_void_p, c_int, _ERROR]),
    "mp_transaction_abort": (c_int, [c_void_p, c_int, _ERROR]),
    "mp_transaction_offsets": (c_int, [c_void_p, c_void_p, _PLACES, c_size_t, c_int, _ERROR]),
    "mp_consumer_new": (c_void_p, [c_void_p, c_char_p, c_size_t]),
    "mp_consumer_free": (None, [c_void_p]),
    "mp_consumer_fd": (c_int, [c_void_p]),
    "mp_subscribe": (c_int, [c_void_p, POINTER(c_char_p), c_size_t, _ERROR]),
    "mp_assign": (c_int, [c_void_p, _PLACES, c_size_t, _ERROR]),
    "mp_consumer_poll": (c_int, [c_void_p, c_int, POINTER(c_void_p), _ERROR]),
    "mp_batch_count": (c_size_t, [c_void_p]),
    "mp_batch_messages": (POINTER(CMessage), [c_void_p]),
    "mp_batch_free": (None, [c_void_p]),
    "mp_commit": (c_int, [c_void_p, _PLACES, c_size_t, c_int, _ERROR]),
    "mp_seek": (c_int, [c_void_p, _PLACES, c_size_t, c_int, _ERROR]),
    "mp_seek_time": (c_int, [c_void_p, _PLACES, c_size_t, c_int64, c_int, _ERROR]),
    "mp_pause": (c_int, [c_void_p, _PLACES, c_size_t, _ERROR]),
    "mp_resume": (c_int, [c_void_p, _PLACES, c_size_t, _ERROR]),
    "mp_positions": (c_int, [c_void_p, POINTER(c_void_p), _ERROR]),
    "mp_committed": (c_int, [c_void_p, _PLACES, c_size_t, c_int, POINTER(c_void_p), _ERROR]),
    "mp_places_count": (c_size_t, [c_void_p]),
    "mp_places_at": (_PLACES, [c_void_p]),
    "mp_places_free": (None, [c_void_p]),
    "mp_consumer_close": (c_int, [c_void_p, c_int, _ERROR]),
}


def _load() -> ctypes.CDLL:
    """The library beside this file, or the one that ``MILLPOND_LIBRARY`` names."""
    beside = pathlib.Path(__file__).with_name("libmillpond_c.so")
    path = os.environ.get("MILLPOND_LIBRARY") or str(beside)
    library = ctypes.CDLL(path)
    for name, (result, arguments) in _SIGNATURES.items():
        function = getattr(library, name)
        function.restype, function.argtypes = result, arguments
    return library


lib: Any = _load()


class Handle:
    """A pointer of the library, freed once, and never under a call."""

    def __init__(self, pointer: int, free: Callable[[int], None]) -> None:
        self._pointer, self._free = pointer, free
        self._users, self._is_closed = 0, False
        self._change = threading.Condition()

    @contextlib.contextmanager
    def use(self) -> Iterator[int]:
        with self._change:
            if self._is_closed:
                raise errors.Closed("it is closed")
            self._users += 1
        try:
            yield self._pointer
        finally:
            with self._change:
                self._users -= 1
                self._change.notify_all()

    @property
    def is_closed(self) -> bool:
        return self._is_closed

    def close(self) -> None:
        """Waits for the calls that are under way."""
        with self._change:
            if self._is_closed:
                return
            self._is_closed = True
            while self._users > 0:
                self._change.wait()
        self._free(self._pointer)


def milliseconds(seconds: Optional[float]) -> int:
    """For a C function: ``None`` is for ever."""
    if seconds is None or math.isinf(seconds):
        return -1
    return max(0, min(int(math.ceil(seconds * 1000)), 2**31 - 1))


def new(kind: str, settings: Dict[str, str]) -> Handle:
    """A ``producer`` or ``consumer`` with these settings."""
    config = lib.mp_config_new()
    try:
        for name, value in settings.items():
            if lib.mp_config_set(config, name.encode(), value.encode()) != OK:
                raise errors.ConfigError(f"{name}: there is no such setting, or its value is not text")
        reason = ctypes.create_string_buffer(ERROR_BYTES)
        pointer = getattr(lib, f"mp_{kind}_new")(config, reason, ERROR_BYTES)
    finally:
        lib.mp_config_free(config)
    if not pointer:
        raise errors.ConfigError(text(reason.value))
    return Handle(pointer, getattr(lib, f"mp_{kind}_free"))


def text(raw: bytes) -> str:
    return raw.decode("utf-8", "replace")


def check(outcome: int, error: Optional[Error] = None) -> None:
    """Raises what a function's answer means."""
    if outcome == OK:
        return
    words = text(error.text) if error is not None else ""
    code = error.code if error is not None else 0
    is_retriable = bool(error.is_retriable) if error is not None else False
    kinds: Dict[int, Tuple[type[errors.MillpondError], str]] = {
        FULL: (errors.BufferFull, "too much is waiting: wait for deliveries, then try again"),
        TIMED_OUT: (errors.TimedOut, "the time given is over"),
        INVALID: (errors.ConfigError, "an argument makes no sense"),
        CLOSED: (errors.Closed, "it is closed"),
        SPOILT: (errors.Spoilt, "something of the transaction was not delivered: abort it"),
        FENCED: (errors.Fenced, "another producer has the transactional id: make a new one"),
        REFUSED: (errors.BrokerError, "the broker refused"),
    }
    kind, default = kinds.get(outcome, (errors.MillpondError, "a defect of the library"))
    raise kind(words or default, code=code, is_retriable=is_retriable)


def c_places(places: Sequence[Place]) -> Any:
    """An array; it keeps what it points to."""
    array = (CPlace * len(places))()
    for slot, (topic, partition, offset) in zip(array, places):
        slot.topic, slot.partition, slot.offset = topic.encode(), partition, offset
    return array


def take_places(pointer: c_void_p) -> List[Place]:
    """What a function has listed, which is freed."""
    try:
        count = lib.mp_places_count(pointer)
        found = lib.mp_places_at(pointer)
        return [(text(found[at].topic), found[at].partition, found[at].offset) for at in range(count)]
    finally:
        lib.mp_places_free(pointer)


def part(pointer: Optional[int], size: int) -> Optional[bytes]:
    """A copy of some bytes; ``None`` for none."""
    return None if pointer is None else ctypes.string_at(pointer, size)
