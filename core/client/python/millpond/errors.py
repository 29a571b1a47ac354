"""What can go wrong. Every error says what happened and what to do in its text."""

from __future__ import annotations


class MillpondError(Exception):
    """The base of all of them."""

    #: Kafka's error code, where the broker refused; else 0.
    code: int
    #: Whether the same may succeed later.
    is_retriable: bool

    def __init__(self, text: str, *, code: int = 0, is_retriable: bool = False) -> None:
        super().__init__(text)
        self.code, self.is_retriable = code, is_retriable


class ConfigError(MillpondError, ValueError):
    """A setting or an argument makes no sense; nothing was done."""


class BrokerError(MillpondError):
    """The broker, or the way to it, said no."""


class TimedOut(MillpondError, TimeoutError):
    """The time given is over."""

    def __init__(self, text: str, *, code: int = 0, is_retriable: bool = True) -> None:
        super().__init__(text, code=code, is_retriable=is_retriable)


class BufferFull(MillpondError):
    """Too much is waiting for the broker."""

    def __init__(self, text: str, *, code: int = 0, is_retriable: bool = True) -> None:
        super().__init__(text, code=code, is_retriable=is_retriable)


class Closed(MillpondError):
    """It was closed before."""


class NotDelivered(MillpondError):
    """A record is not written; sending it again is safe."""


class InDoubt(NotDelivered):
    """A record may be written: sending it again could double it."""


class Spoilt(MillpondError):
    """Something of the transaction was not delivered: it can only be aborted."""


class Fenced(MillpondError):
    """Another producer has the transactional id, or the transaction took too long: make a new producer."""
