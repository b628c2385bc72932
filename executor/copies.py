"""The copy of a variant that one thread calls, and `SET call_timeout`.

Without a timeout the thread that asks calls the copy itself. With one, every copy is loaded and
called in a thread of its own, so that whoever asks can stop waiting. Python cannot end a thread, so
a call that takes too long is given up together with its thread and its copy; the next call gets a
new thread and a copy loaded anew. The old thread is a daemon, which holds up neither the end of the
run nor of the process; if its call comes back, it closes the copy and ends. `MOST_ABANDONED` bounds
how many there are.
"""

from __future__ import annotations

import threading
import time
from contextlib import ExitStack
from queue import Empty, SimpleQueue
from typing import Any

import pyarrow as pa

from ..ir.physical import Stage
from .abandoned import MOST_ABANDONED
from .backends.base import Answer, LoadedModel
from .backends.threads import threads_imposed
from .calls import Callee
from .channels import POLL_SECONDS, Stopped
from .failures import TimedOut, hangs
from .slots import Models
from .state import RunState


class Copy:
    """A copy called in the thread that asks."""

    def __init__(self, stage: Stage, state: RunState) -> None:
        self._stage = stage
        self._state = state
        self._held = ExitStack()
        self._model: LoadedModel | None = None

    def ready(self) -> Callee:
        """The loaded copy; the first time it is loaded.

        Raises:
            RunError: it cannot be.
        """
        if self._model is None:
            models = self._state.models
            self._model = self._held.enter_context(models.borrow(self._stage))
            self._held.enter_context(threads_imposed(models.device(self._stage).threads))
        return self._model

    def close(self) -> None:
        """Give the copy back."""
        self._model = None
        self._held.close()


class TimedCopy:
    """A copy called in a thread of its own, which is given up where a call takes too long."""

    def __init__(self, stage: Stage, state: RunState, seconds: float) -> None:
        self._stage = stage
        self._state = state
        self._seconds = seconds
        self._thread: _Thread | None = None

    def ready(self) -> Callee:
        """Itself, with a loaded copy: the first time, and after one was given up, a new one.

        Raises:
            RunError: it cannot be loaded; OC0410, too many calls of the variant still run.
            Stopped: cancelled while it was loaded.
        """
        if self._thread is None:
            abandoned = self._state.env.abandoned
            if abandoned.count(self._stage.choice) >= MOST_ABANDONED:
                raise hangs(self._stage.choice.variant, MOST_ABANDONED, self._seconds)
            self._thread = _Thread(self._stage, self._state)
            try:
                self._wait(self._thread, None)
            except BaseException:
                self.close()
                raise
        return self

    def call(self, batch: pa.RecordBatch) -> Answer:
        """The model's answer.

        Raises:
            TimedOut: it took too long.
            Stopped: cancelled before it came.
        """
        assert self._thread is not None  # `ready` comes before each call
        self._thread.hand(batch)
        answer: Answer = self._wait(self._thread, self._seconds)
        return answer

    def close(self) -> None:
        """Give the copy back; a call that was interrupted from outside is given up."""
        if self._thread is not None and not self._thread.give_up():
            self._thread.end()
        self._thread = None

    def _wait(self, thread: _Thread, seconds: float | None) -> Any:
        """What the thread did next; gives it up after `seconds`, or when the run is stopped."""
        deadline = None if seconds is None else time.monotonic() + seconds
        while True:
            left = POLL_SECONDS if deadline is None else deadline - time.monotonic()
            try:
                answer, error = thread.done.get(timeout=max(0.0, min(left, POLL_SECONDS)))
            except Empty:
                late = deadline is not None and time.monotonic() >= deadline
                if (late or self._state.stopped()) and thread.give_up():
                    self._thread = None
                    if late and seconds is not None:
                        raise TimedOut(seconds) from None
                    raise Stopped from None
                continue
            if error is not None:
                raise error
            return answer


Done = tuple[Any, BaseException | None]
"""What a model returned, whatever that is, or what was raised."""


class _Thread:
    """Borrows a copy, then answers batches until it is told to end or given up.

    `done` first tells that the copy is loaded, then the outcome of every batch handed over.
    """

    def __init__(self, stage: Stage, state: RunState) -> None:
        self.done: SimpleQueue[Done] = SimpleQueue()
        self._todo: SimpleQueue[pa.RecordBatch | None] = SimpleQueue()
        self._stage = stage
        self._models: Models = state.models
        self._abandoned = state.env.abandoned
        self._lock = threading.Lock()
        self._given_up = False
        self._busy = True
        self._model: LoadedModel | None = None
        # Of another name than the run's own threads, which end with it.
        self._thread = threading.Thread(target=self._work, name=f"call-{stage.step}", daemon=True)
        self._thread.start()

    def hand(self, batch: pa.RecordBatch) -> None:
        """Have it answer a batch."""
        self._busy = True
        self._todo.put(batch)

    def end(self) -> None:
        """End it, which is idle."""
        self._todo.put(None)
        self._thread.join()

    def give_up(self) -> bool:
        """Leave it alone with what it is doing; False where that came to an end just now."""
        with self._lock:
            if not self._busy:
                return False
            self._given_up = True
            self._abandoned.add(self._stage.choice, 1)
            if self._model is not None:
                self._models.retire(self._model)
            return True

    def _work(self) -> None:
        try:
            with (
                self._models.borrow(self._stage) as self._model,
                threads_imposed(self._models.device(self._stage).threads),
            ):
                self._answer_all(self._model)
        except BaseException as error:  # noqa: BLE001 -- handed to whoever waits
            self._tell(None, error)

    def _answer_all(self, model: LoadedModel) -> None:
        if not self._tell(None, None):
            self._models.retire(model)
            return
        while (batch := self._todo.get()) is not None:
            try:
                outcome: Done = (model.call(batch), None)
            except BaseException as error:  # noqa: BLE001 -- handed to whoever waits
                outcome = (None, error)
            if not self._tell(*outcome):
                return

    def _tell(self, answer: Any, error: BaseException | None) -> bool:
        """Hand over what was done; False where nobody waits for it any more."""
        with self._lock:
            busy, self._busy = self._busy, False
            if self._given_up:
                self._abandoned.add(self._stage.choice, -1 if busy else 0)
                return False
            self.done.put((answer, error))
            return True


def copy_for(stage: Stage, state: RunState) -> Copy | TimedCopy:
    """The copy that one thread calls, under the run's timeout."""
    seconds = state.env.call_timeout
    return Copy(stage, state) if seconds is None else TimedCopy(stage, state, seconds)
