"""The same for asyncio: producer and consumer whose waiting is awaited."""

from __future__ import annotations

import asyncio
import contextlib
import functools
from typing import Any, AsyncIterator, Callable, List, Optional, TypeVar

from . import errors
from . import consumer as _consumer
from . import producer as _producer
from ._scope import AsyncClosing
from .consumer import Message
from .producer import Delivery, Headers, Payload

T = TypeVar("T")


async def _aside(function: Callable[..., T], *arguments: Any, **named: Any) -> T:
    """Runs what blocks in a thread of the loop's own."""
    loop = asyncio.get_running_loop()
    return await loop.run_in_executor(None, functools.partial(function, *arguments, **named))


class Producer(AsyncClosing):
    """Takes what :class:`millpond.Producer` takes.

    >>> async with Producer("millpond://10.0.0.1:9092", fingerprint="9F:86:...") as producer:
    ...     delivery = await producer.send("telemetry", b"21.5")
    """

    def __init__(self, bootstrap: str, **given: Any) -> None:
        self._inner = _producer.Producer(bootstrap, **given)

    async def post(
        self,
        topic: str,
        value: Payload,
        *,
        key: Payload = None,
        headers: Optional[Headers] = None,
        partition: Optional[int] = None,
        timestamp_ms: Optional[int] = None,
    ) -> "asyncio.Future[Delivery]":
        """Returns when there is room for the record, with a future of its delivery."""
        send = functools.partial(
            self._inner.send,
            topic,
            value,
            key=key,
            headers=headers,
            partition=partition,
            timestamp_ms=timestamp_ms,
        )
        try:
            future = send(timeout=0)
        except errors.BufferFull:
            future = await _aside(send)
        return asyncio.wrap_future(future)

    async def send(
        self,
        topic: str,
        value: Payload,
        *,
        key: Payload = None,
        headers: Optional[Headers] = None,
        partition: Optional[int] = None,
        timestamp_ms: Optional[int] = None,
    ) -> Delivery:
        """Returns when the broker has the record."""
        future = await self.post(
            topic, value, key=key, headers=headers, partition=partition, timestamp_ms=timestamp_ms
        )
        return await future

    async def flush(self, timeout: Optional[float] = None) -> None:
        await _aside(self._inner.flush, timeout)

    @contextlib.asynccontextmanager
    async def transaction(self, timeout: float = 60) -> AsyncIterator["Transaction"]:
        """As of :meth:`millpond.Producer.transaction`."""
        inner = self._inner.transaction(timeout)
        begun = await _aside(inner.__enter__)
        try:
            yield Transaction(self, begun)
        except BaseException as error:
            # It aborts, and says that the error is not its own.
            await _aside(inner.__exit__, type(error), error, error.__traceback__)
            raise
        await _aside(inner.__exit__, None, None, None)

    def metrics(self) -> _producer.Metrics:
        return self._inner.metrics()

    async def close(self, timeout: Optional[float] = 30) -> None:
        await _aside(self._inner.close, timeout)


class Transaction:
    """What counts together; made by :meth:`Producer.transaction`."""

    def __init__(self, producer: Producer, inner: _producer.Transaction) -> None:
        self._producer, self._inner = producer, inner

    async def send(self, topic: str, value: Payload, **named: Any) -> "asyncio.Future[Delivery]":
        """As of :meth:`Producer.post`; the commit waits for the delivery."""
        return await self._producer.post(topic, value, **named)

    async def send_offsets(self, consumer: "Consumer") -> None:
        await _aside(self._inner.send_offsets, consumer.sync)


class Consumer(AsyncClosing):
    """Takes what :class:`millpond.Consumer` takes. For one task at a time.

    >>> async with Consumer("millpond://10.0.0.1:9092", topics=["telemetry"]) as consumer:
    ...     async for message in consumer:
    ...         print(message.value)
    """

    def __init__(self, bootstrap: str, **given: Any) -> None:
        #: For what never waits: ``pause``, ``resume``, ``assignment``, ``position``.
        self.sync = _consumer.Consumer(bootstrap, **given)

    async def poll(self, timeout: Optional[float] = None) -> List[Message]:
        """The next messages as soon as there are any; none after ``timeout`` seconds."""
        loop = asyncio.get_running_loop()
        deadline = None if timeout is None else loop.time() + timeout
        while True:
            messages = self.sync.poll(0)
            left = None if deadline is None else deadline - loop.time()
            if messages or (left is not None and left <= 0):
                return messages
            await _readable(loop, self.sync.fileno(), left)

    async def __aiter__(self) -> AsyncIterator[Message]:
        while True:
            if not self.sync._waiting:  # noqa: SLF001
                try:
                    await _readable(asyncio.get_running_loop(), self.sync.fileno(), None)
                    self.sync._fill(0)  # noqa: SLF001
                except errors.Closed:
                    return
            while self.sync._waiting:  # noqa: SLF001
                message = self.sync._waiting.popleft()  # noqa: SLF001
                self.sync._hand(message)  # noqa: SLF001
                yield message

    async def commit(self, timeout: float = 30) -> None:
        await _aside(self.sync.commit, timeout)

    async def seek(self, topic: str, partition: int, offset: int) -> None:
        await _aside(self.sync.seek, topic, partition, offset)

    async def close(self, timeout: float = 30) -> None:
        await _aside(self.sync.close, timeout)


async def _readable(
    loop: asyncio.AbstractEventLoop, descriptor: int, timeout: Optional[float]
) -> None:
    """Waits until the descriptor is readable, or the time is over."""
    news = asyncio.Event()
    loop.add_reader(descriptor, news.set)
    try:
        await asyncio.wait_for(news.wait(), timeout)
    except asyncio.TimeoutError:
        pass
    finally:
        loop.remove_reader(descriptor)
