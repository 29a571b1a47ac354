"""What is closed at the end of a ``with``. It knows nothing of what it closes."""

from __future__ import annotations

import abc
from types import TracebackType
from typing import Optional, Type, TypeVar

_Closing = TypeVar("_Closing", bound="Closing")
_AsyncClosing = TypeVar("_AsyncClosing", bound="AsyncClosing")


class Closing(abc.ABC):
    @abc.abstractmethod
    def close(self) -> None: ...

    def __enter__(self: _Closing) -> _Closing:
        return self

    def __exit__(
        self,
        kind: Optional[Type[BaseException]],
        error: Optional[BaseException],
        trace: Optional[TracebackType],
    ) -> None:
        self.close()


class AsyncClosing(abc.ABC):
    @abc.abstractmethod
    async def close(self) -> None: ...

    async def __aenter__(self: _AsyncClosing) -> _AsyncClosing:
        return self

    async def __aexit__(
        self,
        kind: Optional[Type[BaseException]],
        error: Optional[BaseException],
        trace: Optional[TracebackType],
    ) -> None:
        await self.close()
