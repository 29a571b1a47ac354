"""Millpond's SDK for Python: produce and consume over QUIC, TLS or TCP, in the Kafka protocol.

``Producer`` and ``Consumer`` block and may be used from any program; ``millpond.aio`` has the same for
asyncio. An address is ``millpond://HOST:PORT`` (QUIC where UDP passes, TLS over TCP where it does not, and
back), ``quic://``, ``tls://`` or ``tcp://``, several separated by commas.

Times are in seconds, but for the timestamps of records, which are Kafka's: milliseconds since 1970.
"""

from .consumer import Consumer, Message, Partition
from .errors import (
    BrokerError,
    BufferFull,
    Closed,
    ConfigError,
    Fenced,
    InDoubt,
    MillpondError,
    NotDelivered,
    Spoilt,
    TimedOut,
)
from .producer import Delivery, Metrics, Producer, Transaction

__all__ = [
    "BrokerError",
    "BufferFull",
    "Closed",
    "ConfigError",
    "Consumer",
    "Delivery",
    "Fenced",
    "InDoubt",
    "Message",
    "Metrics",
    "MillpondError",
    "NotDelivered",
    "Partition",
    "Producer",
    "Spoilt",
    "TimedOut",
    "Transaction",
]
