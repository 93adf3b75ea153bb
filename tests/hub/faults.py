"""What goes wrong on purpose."""

import re
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field

from hub.log import Origin, Request


@dataclass
class Fault:
    """One thing that goes wrong with some requests.

    A large file is asked for twice: the hub's answer, a redirect without a body, and that of the CDN. What happens to a
    body is meant for the second: say ``origin="cdn"``.

    Attributes:
        pattern: regular expression, searched in ``GET /path?query``; a download's name is in the query of its CDN address.
        origin: only of requests to this origin; None: of both.
        times: how often it strikes; None: always.
        after: requests that it lets pass before.
        status: answered instead of the real answer; None: the real answer, with what else is said here.
        headers: of that answer, beside the real ones when ``status`` is None.
        body: of the answer with that status.
        hang_up: the connection ends without any answer.
        drop_after: bytes of the body after which the connection ends, while the headers promise all.
        corrupt: flips all bits of the middle byte of the body; the length stays.
        slow: seconds of silence before the answer.
        hits: how often it has struck.
    """

    pattern: str
    origin: Origin | None = None
    times: int | None = 1
    after: int = 0
    status: int | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    hang_up: bool = False
    drop_after: int | None = None
    corrupt: bool = False
    slow: float = 0.0
    hits: int = 0

    def concerns(self, request: Request) -> bool:
        """Whether ``request`` is one of those, had it not struck too often yet."""
        return self.origin in {None, request.origin} and bool(re.search(self.pattern, request.line))


class Faults:
    """All faults in the order in which they were asked for; the first that concerns a request strikes."""

    def __init__(self):
        self._faults: list[Fault] = []
        self._lock = threading.Lock()

    def append(self, fault: Fault) -> None:
        """From now on, let ``fault`` strike."""
        with self._lock:
            self._faults.append(fault)

    def clear(self) -> None:
        """Let nothing go wrong any more."""
        with self._lock:
            self._faults.clear()

    def strike(self, request: Request) -> Fault | None:
        """The fault that strikes ``request``, counted."""
        with self._lock:
            for fault in self._faults:
                if fault.times is not None and fault.hits >= fault.times:
                    continue
                if not fault.concerns(request):
                    continue
                if fault.after > 0:
                    fault.after -= 1
                    continue
                fault.hits += 1
                return fault
        return None
