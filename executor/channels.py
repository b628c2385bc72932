"""Bounded channels between the threads of a run, and the threads that fill them.

A run is a set of pumps: daemon threads that each iterate over a generator and put what it yields
into a channel. Closing a channel from the reading side closes what lies upstream of it, so a LIMIT
stops its sources at once. Every wait wakes at least every `POLL_SECONDS` to look for cancellation.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Generic, TypeVar

from .chunks import Chunk

T = TypeVar("T")

POLL_SECONDS = 0.1
"""How late a waiting thread may notice a cancellation; a tenth of the promised second."""


class Stopped(Exception):
    """Nobody wants more: the run was cancelled or the reader went away."""


class Channel(Generic[T]):
    """A bounded queue of chunks with an end, an error, and a reader that may leave.

    `capacity` 2 lets the writer work on one chunk while the reader works on another and one waits.
    """

    def __init__(self, stopped: Callable[[], bool], capacity: int = 2) -> None:
        self._items: deque[T] = deque()
        self._capacity = capacity
        self._changed = threading.Condition()
        self._stopped = stopped
        self._ended = False
        self._error: BaseException | None = None
        self.closed = False
        self.upstream: tuple[Channel[T], ...] = ()

    def put(self, item: T) -> None:
        """Wait for room, then add.

        Raises:
            Stopped: the reader left or the run was cancelled.
        """
        with self._changed:
            while len(self._items) >= self._capacity and not self.closed:
                self._check()
                self._changed.wait(POLL_SECONDS)
            self._check()
            self._items.append(item)
            self._changed.notify_all()

    def get(self, idle: Callable[[], None] | None = None) -> T | None:
        """The next item, or None at the end; `idle` is called while waiting.

        Raises:
            Stopped: the run was cancelled.
        """
        with self._changed:
            while not self._items:
                if self._error is not None:
                    raise self._error
                if self._ended:
                    return None
                self._check()
                if idle is not None:
                    idle()
                self._changed.wait(POLL_SECONDS)
            item = self._items.popleft()
            self._changed.notify_all()
            return item

    def end(self, error: BaseException | None = None) -> None:
        """The writer is done, or failed with `error`, which the reader gets after the items."""
        with self._changed:
            self._ended = True
            self._error = error
            self._changed.notify_all()

    def close(self) -> None:
        """The reader wants no more; everything upstream stops."""
        open_channels = [self]
        while open_channels:
            channel = open_channels.pop()
            with channel._changed:
                channel.closed = True
                channel._items.clear()
                channel._changed.notify_all()
            open_channels.extend(channel.upstream)

    def _check(self) -> None:
        if self.closed or self._stopped():
            raise Stopped


@dataclass
class Stream:
    """Chunks in order, and the channels that feed them."""

    chunks: Iterator[Chunk]
    channels: tuple[Channel[Chunk], ...] = ()

    def close(self) -> None:
        """Stop everything that feeds this."""
        for channel in self.channels:
            channel.close()


def read(channel: Channel[Chunk]) -> Iterator[Chunk]:
    """The channel's items until its end."""
    while (chunk := channel.get()) is not None:
        yield chunk


class Pumps:
    """The threads of one run."""

    def __init__(
        self, stopped: Callable[[], bool], failed: Callable[[BaseException], None]
    ) -> None:
        self._stopped = stopped
        self._failed = failed
        self._threads: list[threading.Thread] = []
        self._started = 0

    def pump(self, name: str, source: Stream) -> Stream:
        """A thread that works `source` off, once `start` is called; its results as a stream."""
        channel: Channel[Chunk] = Channel(self._stopped)
        channel.upstream = source.channels

        def work() -> None:
            error: BaseException | None = None
            try:
                for chunk in source.chunks:
                    channel.put(chunk)
            except Stopped as stopped:
                error = stopped
            except BaseException as raised:  # noqa: BLE001 -- handed to the reading thread
                error = raised
                self._failed(raised)
            finally:
                close_generator(source.chunks)
                source.close()
                channel.end(error)

        self._threads.append(threading.Thread(target=work, name=f"octans-{name}", daemon=True))
        return Stream(read(channel), (channel,))

    def start(self) -> None:
        """Start the threads made since the last call."""
        for thread in self._threads[self._started :]:
            thread.start()
        self._started = len(self._threads)

    def join(self, seconds: float) -> bool:
        """Wait for all threads; False if one still runs (a model call that cannot be stopped)."""
        deadline = time.monotonic() + seconds
        for thread in self._threads[: self._started]:
            thread.join(max(0.0, deadline - time.monotonic()))
        return not any(thread.is_alive() for thread in self._threads[: self._started])


def close_generator(chunks: Iterator[Chunk]) -> None:
    """Run the `finally` blocks of a generator now, in this thread."""
    close = getattr(chunks, "close", None)
    if close is not None:
        close()
