"""Lanes: where a stage's batch calls happen, in its own thread or on several workers.

A lane takes batches with a tag (whose elements they are) and gives results in the same order.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from queue import SimpleQueue
from typing import Generic, TypeVar

import pyarrow as pa

from ..ir.physical import Stage
from .calls import BatchCaller, BatchResult
from .channels import POLL_SECONDS, Stopped
from .copies import Copy, TimedCopy, copy_for
from .state import RunState

T = TypeVar("T")


class Lane(Generic[T]):
    """Calls batches in the stage's own thread."""

    def __init__(self, stage: Stage, state: RunState, caller: BatchCaller) -> None:
        self._caller = caller
        self._copy = copy_for(stage, state)
        self._results: list[tuple[BatchResult, T]] = []

    def submit(self, batch: pa.RecordBatch, tag: T) -> None:
        """Call now; the first call loads the model."""
        self._results.append((self._caller.call(self._copy.ready(), batch), tag))

    def results(self, *, wait: bool) -> Iterable[tuple[BatchResult, T]]:
        """Finished batches, in the order submitted."""
        finished, self._results = self._results, []
        return finished

    def close(self) -> None:
        """Give the model back."""
        self._copy.close()


@dataclass
class _Job(Generic[T]):
    """A batch on its way through a worker; `error` stands for a result."""

    batch: pa.RecordBatch
    tag: T
    done: threading.Event = field(default_factory=threading.Event)
    result: BatchResult | None = None
    error: BaseException | None = None


class WideLane(Generic[T]):
    """Calls batches on `replicas` worker threads; results come in the order submitted."""

    def __init__(self, stage: Stage, state: RunState, caller: BatchCaller) -> None:
        self._stage = stage
        self._state = state
        self._caller = caller
        self._jobs: SimpleQueue[_Job[T] | None] = SimpleQueue()
        self._inflight: deque[_Job[T]] = deque()
        self._most = 2 * stage.choice.replicas
        self._workers = [
            threading.Thread(
                target=self._work, name=f"octans-{stage.step}-replica-{i}", daemon=True
            )
            for i in range(stage.choice.replicas)
        ]
        for worker in self._workers:
            worker.start()

    def submit(self, batch: pa.RecordBatch, tag: T) -> None:
        """Queue a batch."""
        job = _Job(batch, tag)
        self._inflight.append(job)
        self._jobs.put(job)

    def results(self, *, wait: bool) -> Iterator[tuple[BatchResult, T]]:
        """Finished batches; waits for all, or until few enough are in flight."""
        while self._inflight:
            job = self._inflight[0]
            must = wait or len(self._inflight) >= self._most
            if not must and not job.done.is_set():
                return
            while not job.done.wait(POLL_SECONDS):
                if self._state.stopped():
                    raise Stopped
            self._inflight.popleft()
            if job.error is not None:
                raise job.error
            assert job.result is not None
            yield job.result, job.tag

    def close(self) -> None:
        """End the workers; one inside a model call is left to finish it alone."""
        for job in self._inflight:
            job.done.set()
        for _ in self._workers:
            self._jobs.put(None)
        for worker in self._workers:
            worker.join(None if not self._state.stopped() else 2 * POLL_SECONDS)

    def _work(self) -> None:
        try:
            with closing(copy_for(self._stage, self._state)) as copy:
                copy.ready()  # whether or not there is a batch for it
                while (job := self._jobs.get()) is not None:
                    self._answer(job, copy)
        except BaseException as error:  # noqa: BLE001 -- handed to the stage's thread
            while (job := self._jobs.get()) is not None:
                job.error = error
                job.done.set()

    def _answer(self, job: _Job[T], copy: Copy | TimedCopy) -> None:
        if job.done.is_set():
            return
        try:
            job.result = self._caller.call(copy.ready(), job.batch)
        except BaseException as error:  # noqa: BLE001 -- handed to the stage's thread
            job.error = error
        job.done.set()


def lane_for(stage: Stage, state: RunState, caller: BatchCaller) -> Lane[T] | WideLane[T]:
    """The lane for the stage's number of replicas."""
    if stage.choice.replicas > 1:
        return WideLane(stage, state, caller)
    return Lane(stage, state, caller)
