"""Values that are costly to read again, in bounded memory."""

from collections import OrderedDict
from collections.abc import Callable, Hashable
from threading import Lock
from typing import Any


class Cache:
    """Values by key, each as long as its stamp stays the same; the longest unused go when `room` bytes are full."""

    def __init__(self, room: int) -> None:
        self._room = room
        self._kept: OrderedDict[Hashable, tuple[Hashable, Any, int]] = OrderedDict()
        self._lock = Lock()

    @property
    def size(self) -> int:
        """Bytes that are kept."""
        return sum(size for _, _, size in self._kept.values())

    def peek(self, key: Hashable) -> Any:
        """The value of this key as it was made last, whatever its stamp; None where it is not kept."""
        with self._lock:
            return self._kept[key][1] if key in self._kept else None

    def get(self, key: Hashable, stamp: Hashable, make: Callable[[], tuple[Any, int]]) -> Any:
        """The value of this key and stamp; `make` returns it and its bytes where it is not kept."""
        with self._lock:
            if key in self._kept and self._kept[key][0] == stamp:
                self._kept.move_to_end(key)
                return self._kept[key][1]
        value, size = make()
        with self._lock:
            self._kept.pop(key, None)
            if size <= self._room:
                self._kept[key] = stamp, value, size
            while self.size > self._room:
                self._kept.popitem(last=False)
        return value
