"""What was asked of the hub, and what it answered."""

import re
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

Origin = Literal["api", "cdn"]


@dataclass
class Request:
    """One request; it is in the log before its answer is on the wire, so a client that has its answer finds it.

    Attributes:
        method: GET, HEAD, …
        path: as it came, with its query.
        origin: whom it asked.
        range: the header of that name, None without.
        authorization: the header of that name, None without.
        status: of the answer; 0 while there is none, or when the connection was cut before.
        bytes_sent: of the answer's body, headers not counted.
        bytes_received: of the request's body.
    """

    method: str
    path: str
    origin: Origin
    range: str | None = None
    authorization: str | None = None
    status: int = 0
    bytes_sent: int = 0
    bytes_received: int = 0

    @property
    def line(self) -> str:
        """Method and path, as patterns see them: ``GET /api/models?limit=2``."""
        return f"{self.method} {self.path}"


class Log:
    """All requests since the start or since `clear`, in the order in which they came."""

    def __init__(self):
        self._requests: list[Request] = []
        self._lock = threading.Lock()

    def append(self, request: Request) -> None:
        """Note ``request``."""
        with self._lock:
            self._requests.append(request)

    def clear(self) -> None:
        """Forget everything."""
        with self._lock:
            self._requests.clear()

    def find(self, pattern: str = "", origin: Origin | None = None) -> list[Request]:
        """Requests in whose `Request.line` the regular expression ``pattern`` is found."""
        return [
            request
            for request in self
            if origin in {None, request.origin} and re.search(pattern, request.line)
        ]

    @property
    def bytes_sent(self) -> int:
        """Of all answers' bodies together."""
        return sum(request.bytes_sent for request in self)

    def __iter__(self) -> Iterator[Request]:
        with self._lock:
            return iter(self._requests.copy())

    def __len__(self) -> int:
        with self._lock:
            return len(self._requests)

    def __getitem__(self, index: int) -> Request:
        with self._lock:
            return self._requests[index]

    def __repr__(self) -> str:
        return "\n".join(
            f"{r.origin} {r.status} {r.line} {r.range or ''} → {r.bytes_sent} bytes" for r in self
        )
