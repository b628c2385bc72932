"""Slots of devices and the loaded variants that run on them."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from queue import Empty, SimpleQueue

from ..ir.models import Device, Model, Variant
from ..ir.physical import Stage
from .artefacts import stamps_of
from .backends import backend_for
from .backends.base import LoadedModel, LoadRequest, import_lazily_loaded, imports_apart
from .backends.threads import threads_imposed
from .channels import POLL_SECONDS, Stopped
from .failures import changed, not_available, unknown
from .power import Meters
from .power.memory import Footprint, Growth


class Slots:
    """COUNT slots per device; whoever calls a model holds one, and one of the run's `workers`.

    Tokens in a queue: several times cheaper to take than Python's semaphores. Nobody waits for a
    slot while holding a worker, so whoever waits for a worker waits for a call that is running.
    """

    def __init__(
        self,
        devices: Mapping[str, Device],
        stopped: Callable[[], bool],
        workers: int | None = None,
    ) -> None:
        """`workers` bounds the calls at once over all devices; None: the slots alone do."""
        self._free = {name: _tokens(device.count) for name, device in devices.items()}
        slots = sum(device.count for device in devices.values())
        self._workers = None if workers is None or workers >= slots else _tokens(workers)
        self.stopped = stopped

    def take(self, device: str) -> float:
        """A slot, once one is free; the seconds waited. Give it back with `give`.

        Raises:
            Stopped: the run was cancelled.
        """
        if self.stopped():
            raise Stopped
        waited = self._token(self._free[device])
        if self._workers is not None:
            try:
                waited += self._token(self._workers)
            except BaseException:
                self._free[device].put(None)
                raise
        return waited

    def _token(self, free: SimpleQueue[None]) -> float:
        try:
            free.get_nowait()
        except Empty:
            return self._wait(free)
        return 0.0

    def _wait(self, free: SimpleQueue[None]) -> float:
        began = time.perf_counter()
        while True:
            with suppress(Empty):
                free.get(timeout=POLL_SECONDS)
                return time.perf_counter() - began
            if self.stopped():
                raise Stopped

    def give(self, device: str) -> None:
        """Give a slot back."""
        if self._workers is not None:
            self._workers.put(None)
        self._free[device].put(None)


def _tokens(count: int) -> SimpleQueue[None]:
    tokens: SimpleQueue[None] = SimpleQueue()
    for _ in range(count):
        tokens.put(None)
    return tokens


@dataclass
class _Shelf:
    """The copies of one variant with fixed knobs on one device; `stage` called it first."""

    stage: Stage
    lock: threading.Lock = field(default_factory=threading.Lock)
    shared: LoadedModel | None = None
    idle: list[LoadedModel] = field(default_factory=list)
    loads: list[float] = field(default_factory=list)
    memory_bytes: int | None = None
    on_device: Footprint = field(default_factory=Footprint)


class Models:
    """Loaded variants: one copy if thread-safe, else one for every caller at a time.

    A copy given back is kept for the next caller of this object, so measuring several batch sizes
    loads once.
    """

    def __init__(
        self,
        models: Mapping[str, Model],
        variants: Mapping[str, Variant],
        devices: Mapping[str, Device],
        base_dir: Path,
        meters: Meters,
    ) -> None:
        self._models = models
        self._variants = variants
        self._devices = devices
        self._base_dir = base_dir
        self._growth = Growth(meters)
        self._shelves: dict[tuple[object, ...], _Shelf] = {}
        self._unloads: list[tuple[Stage, float]] = []
        self._retired: list[LoadedModel] = []
        self._stamps: dict[str, tuple[str, ...] | None] = {}
        self._lock = threading.Lock()

    def model(self, stage: Stage) -> Model:
        """The stage's model.

        Raises:
            RunError: OC0408.
        """
        if stage.model not in self._models:
            raise unknown("model", stage.model)
        return self._models[stage.model]

    def device(self, stage: Stage) -> Device:
        """The stage's device.

        Raises:
            RunError: OC0408.
        """
        if stage.choice.device not in self._devices:
            raise unknown("device", stage.choice.device)
        return self._devices[stage.choice.device]

    @contextmanager
    def borrow(self, stage: Stage) -> Iterator[LoadedModel]:
        """A loaded copy of the stage's variant for one caller.

        Raises:
            RunError: it cannot be loaded.
        """
        request = self._request(stage)
        shelf = self._shelf(stage)
        with self._growth.watch(stage.choice.device, shelf.on_device):
            with shelf.lock:
                loaded = shelf.shared or (shelf.idle.pop() if shelf.idle else None)
                if loaded is None:
                    loaded = self._load(request, shelf)
            try:
                yield loaded
            finally:
                if not loaded.thread_safe:
                    self._give_back(loaded, shelf)

    def retire(self, loaded: LoadedModel) -> None:
        """Lend a borrowed copy to nobody else: it is closed when it is given back.

        One that others call at this moment too is left to them.
        """
        with self._lock:
            if not loaded.thread_safe:
                self._retired.append(loaded)
            for shelf in self._shelves.values():
                if shelf.shared is loaded:
                    shelf.shared = None

    def loads(self, stage: Stage) -> list[float]:
        """Seconds that loading each copy of the stage's variant took, in their order."""
        return list(self._shelf(stage).loads)

    def memory_bytes(self, stage: Stage) -> int | None:
        """What the first copy took; on a GPU, with its calls so far."""
        shelf = self._shelf(stage)
        return shelf.on_device.peak or shelf.memory_bytes

    def close(self) -> None:
        """Close all copies nobody uses."""
        with self._lock:
            shelves = list(self._shelves.values())
            self._shelves.clear()
        for shelf in shelves:
            for loaded in [*shelf.idle, *([shelf.shared] if shelf.shared else [])]:
                began = time.perf_counter()
                loaded.close()
                self._unloads.append((shelf.stage, time.perf_counter() - began))

    def unloads(self) -> list[tuple[Stage, float]]:
        """Seconds that closing each copy took, by the stage that first called its variant."""
        return list(self._unloads)

    def _give_back(self, loaded: LoadedModel, shelf: _Shelf) -> None:
        with self._lock:
            kept = [copy for copy in self._retired if copy is not loaded]
            retired, self._retired = len(kept) < len(self._retired), kept
        if retired:
            loaded.close()
            return
        with shelf.lock:
            shelf.idle.append(loaded)

    def _load(self, request: LoadRequest, shelf: _Shelf) -> LoadedModel:
        """A new copy.

        Raises:
            RunError: it cannot be loaded; OC0411, not from the files that others were.
        """
        assert request.variant.backend is not None
        name, stamps = request.variant.full_name, stamps_of(request.variant.backend, self._base_dir)
        if self._stamps.setdefault(name, stamps) != stamps:
            raise changed(name)
        import_lazily_loaded()
        with threads_imposed(request.device.threads), imports_apart() as imports:
            began = time.perf_counter()
            loaded = backend_for(request.variant.backend.kind).load(request)
            took = time.perf_counter() - began
        shelf.loads.append(took - imports.seconds)
        if shelf.memory_bytes is None:
            shelf.memory_bytes = loaded.memory_bytes
        if loaded.thread_safe:
            shelf.shared = loaded
        return loaded

    def _shelf(self, stage: Stage) -> _Shelf:
        choice = stage.choice
        with self._lock:
            key = (choice.variant, choice.version, choice.knobs, choice.device)
            return self._shelves.setdefault(key, _Shelf(stage))

    def _request(self, stage: Stage) -> LoadRequest:
        name = stage.choice.variant
        variant = self._variants.get(name)
        if variant is None:
            raise unknown("variant", name)
        if variant.backend is None:
            how = "" if variant.derivation is None else f" BY {variant.derivation.transform}"
            raise not_available(
                f"the derived variant {name}{how}, which was never built,",
                f"build it: CREATE OR REPLACE VARIANT {name} FROM … BY …",
            )
        return LoadRequest(
            variant, stage.choice.knobs, self.device(stage), self.model(stage), self._base_dir
        )
