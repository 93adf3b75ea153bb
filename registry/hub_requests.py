"""Requests to the Hugging Face Hub, made politely. A door to huggingface_hub.

All go through `Requests.get`: it counts them, waits as long as the server wishes (all threads wait together), tries again what
may pass, follows redirects, and gives what does not pass our names. Tokens are the library's affair: they stand in the
headers of requests to the Hub itself, never in those to other hosts, and nowhere else.
"""

import logging
import os
import random
import re
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Self
from urllib.parse import urljoin, urlsplit

from registry.errors import (
    BadParameter,
    HubBusy,
    HubMissing,
    HubRefused,
    Offline,
    RequestsSpent,
)
from registry.names import printable
from registry.version import VERSION

MOST_WAITS = 5
"""How often one request is tried again."""

WHOLE, PART = 200, 206
"""Statuses of an answer that holds a file, and of one that holds a part of it."""

PASSING = (408, 425, 429, 500, 502, 503, 504)
"""Statuses of answers that may be better later."""

_MOST_DIALS = 2  # the same, while nothing has answered yet
_TIMEOUT_SECONDS = 30.0
_LONGEST_WAIT_SECONDS = 8.0
_LONGEST_ASKED_SECONDS = 900.0  # of a Retry-After; the Hub counts in windows of five minutes
_TOO_MANY = 429
_REDIRECTS = (301, 302, 303, 307, 308)
_MOST_REDIRECTS = 5

_NEXT = re.compile(r'<([^<>]+)>\s*;[^,]*\brel="?next"?')
_RATE = re.compile(r"\br=0\s*;\s*t=(\d+)")


@dataclass(frozen=True)
class Answer:
    """What the server said.

    Attributes:
        status: of HTTP.
        headers: keys in lower case.
        content: the body, up to one byte more than was allowed.
        url: that gave it.
    """

    status: int
    headers: dict[str, str]
    content: bytes
    url: str

    @property
    def location(self) -> str:
        """Where it sends us; "" for nowhere."""
        return self.headers.get("location", "")

    @property
    def next_page(self) -> str | None:
        """The URL of the page after this one."""
        found = _NEXT.search(self.headers.get("link", ""))
        return _joined(self.url, found[1]) if found else None

    @property
    def wait_seconds(self) -> float:
        """How long it asks us to wait; 0 when it does not say."""
        found = (
            _RATE.search(self.headers.get("ratelimit", "")) if self.status == _TOO_MANY else None
        )
        said = found[1] if found else self.headers.get("retry-after", "").strip()
        if said.isdecimal() and said.isascii():
            return float(said[:9]) + 1.0
        try:
            when = parsedate_to_datetime(said).timestamp() if said else 0.0
        except (ValueError, OverflowError):
            when = 0.0
        return max(0.0, when - time.time())


def _joined(url: str, to: str) -> str:
    """Where a link on a page leads; "" if that is nowhere."""
    try:
        found = urljoin(url, to)
    except ValueError:
        return ""
    return found if _leads_somewhere(found) else ""


def _leads_somewhere(url: str) -> bool:
    """Whether a URL could be asked: the client's own errors for the others have no name."""
    try:
        parts = urlsplit(url)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:  # a host in half a pair of brackets, a port that is no number
        return False


def is_offline() -> bool:
    """Whether the user wants no network: HF_HUB_OFFLINE, as it was when the library was loaded."""
    from huggingface_hub import constants  # noqa: PLC0415 (as below)

    return constants.is_offline_mode()


class Requests:
    """Asks one Hub; safe to use from several threads. A context manager: leaving it wakes whoever waits.

    Attributes:
        endpoint: where the Hub is, from HF_ENDPOINT as it is now.
        n_requests: made so far.
        n_bytes: of answers, so far.
    """

    def __init__(self, *, most_requests: int | None = None) -> None:
        """Ask nothing yet.

        Args:
            most_requests: after so many nothing is asked any more.

        Raises:
            Offline: HF_HUB_OFFLINE is set.
            BadParameter: HF_ENDPOINT is no address.
        """
        from huggingface_hub import constants  # noqa: PLC0415 (0.1 s; only who uses the Hub pays)

        if is_offline():
            message = "HF_HUB_OFFLINE is set, and the Hub is not asked"
            raise Offline(message, hint="scan hf-cache: for what is there, or unset HF_HUB_OFFLINE")
        self.endpoint = (os.environ.get("HF_ENDPOINT") or constants.ENDPOINT).rstrip("/")
        if not _leads_somewhere(self.endpoint):
            message = f"HF_ENDPOINT is {printable(self.endpoint)[:80]!r}; it must be an address that begins with https://"
            raise BadParameter(message, hint="unset HF_ENDPOINT, or give the address of a Hub")
        self.n_requests = self.n_bytes = 0
        self._most_requests = most_requests
        self._lock = threading.Lock()
        self._closed = threading.Event()
        self._quiet_until = 0.0
        self._reached = False
        if not os.environ.get("HF_HUB_VERBOSITY"):  # we say ourselves what went wrong
            logging.getLogger("huggingface_hub").setLevel(logging.ERROR)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._closed.set()

    def get(self, what: str, url: str, headers: Mapping[str, str], most_bytes: int) -> Answer:
        """Ask, also where the answer sends us.

        Args:
            what: is asked for, in the words of errors.
            url: in full.
            headers: beside those of every request.
            most_bytes: of the body that are read.

        Raises:
            HubBusy: no answer in `MOST_WAITS` tries more, or one that makes no sense.
            RequestsSpent: no request is left.
        """
        for _ in range(_MOST_REDIRECTS):
            answer = self._ask(what, url, headers, most_bytes)
            if answer.status not in _REDIRECTS or not answer.location:
                return answer
            url = _joined(url, answer.location)
            if not url:
                raise strange(what, f"a redirect to nowhere ({printable(answer.location)[:80]})")
        raise strange(what, "redirects without end")

    def _ask(self, what: str, url: str, headers: Mapping[str, str], most: int) -> Answer:
        """Ask until there is an answer that will not pass by itself.

        Raises:
            HubBusy: there was none in `MOST_WAITS` tries more.
            RequestsSpent: no request is left.
        """
        problem = ""
        for n_tries in range(MOST_WAITS + 1):
            if n_tries:
                jitter = random.uniform(0.75, 1.25)  # noqa: S311 (so that threads do not come all at once)
                self._pause(min(_LONGEST_WAIT_SECONDS, 2.0 ** (n_tries - 1)) * jitter)
            self._count(what)
            try:
                answer = self._once(url, headers, most)
            except transport_errors() as error:
                problem = type(error).__name__
                if n_tries >= _MOST_DIALS and not self._reached:
                    break  # there is no network: no need to make the user wait
                continue
            if answer.status not in PASSING:
                return answer
            problem = f"status {answer.status}"
            self._heed(what, answer)
        message = f"{what}: the Hub did not answer in {n_tries + 1} tries ({problem})"
        hint = "run the same command again later; what is done is kept"
        raise HubBusy(
            message,
            hint=hint if self._reached else "without a network: HF_HUB_OFFLINE=1 uses the cache",
        )

    def _once(self, url: str, headers: Mapping[str, str], most: int) -> Answer:
        """One request, of whose answer at most ``most`` bytes and one more are read."""
        from huggingface_hub import get_session  # noqa: PLC0415 (as above)
        from huggingface_hub.utils import build_hf_headers  # type: ignore[attr-defined] # noqa: PLC0415

        own = self.is_ours(url)
        sent = build_hf_headers(
            token=None if own else False, library_name="homolog", library_version=VERSION
        )
        content = bytearray()
        with get_session().stream(
            "GET",
            url,
            headers={**sent, **headers},
            timeout=_TIMEOUT_SECONDS,
            follow_redirects=False,
        ) as response:
            for block in response.iter_bytes():
                content += block
                if len(content) > most:
                    break
        with self._lock:
            self._reached = True
            self.n_bytes += len(content)
        return Answer(response.status_code, dict(response.headers), bytes(content), url)

    def _count(self, what: str) -> None:
        """Take one request from those allowed, once nobody asks us to be quiet; none once the block is left."""
        self._pause(0.0)
        while (left := self._quiet_until - time.monotonic()) > 0:
            self._pause(left)
        with self._lock:
            if self._most_requests is not None and self.n_requests >= self._most_requests:
                message = (
                    f"{what}: the {self._most_requests} requests that were allowed are used up"
                )
                raise RequestsSpent(
                    message, hint="run the same command again: what was read is kept"
                )
            self.n_requests += 1

    def _pause(self, seconds: float) -> None:
        """Wait, or until the block is left."""
        if self._closed.wait(seconds):
            message = "stopped"
            raise HubBusy(message)

    def _heed(self, what: str, answer: Answer) -> None:
        """Be quiet, in all threads, as long as the Hub asks for."""
        seconds = answer.wait_seconds
        if seconds > _LONGEST_ASKED_SECONDS:
            message = f"{what}: the Hub asks to be left alone for {seconds:.0f} s"
            raise HubBusy(message, hint="run the same command again then; what is done is kept")
        with self._lock:
            self._quiet_until = max(self._quiet_until, time.monotonic() + seconds)

    def is_ours(self, url: str) -> bool:
        """Whether a URL is of the Hub itself, to which alone a token is sent."""
        one, other = urlsplit(url), urlsplit(self.endpoint)
        return (one.scheme, one.netloc.lower()) == (other.scheme, other.netloc.lower())


def refuse(what: str, answer: Answer) -> None:
    """Raise what an answer means that is none.

    Raises:
        HubRefused, HubMissing, HubBusy: by its status and code.
    """
    code = answer.headers.get("x-error-code", "")
    if answer.status < 300:  # noqa: PLR2004
        return
    if code == "GatedRepo":
        message = f"{what}: is gated: its owner must let you in"
        raise HubRefused(
            message, hint="accept its terms on its page, hf auth login, and scan it by its name"
        )
    if answer.status == 403:  # noqa: PLR2004
        message = f"{what}: the Hub refuses to show it"
        raise HubRefused(message, hint="hf auth login with a token that may read it")
    if answer.status in (401, 404):
        missing = {
            "RevisionNotFound": "has no such revision", "EntryNotFound": "has no such file",
        }.get(code, "there is no such repository on the Hub, or it is private")  # fmt: skip
        message = f"{what}: {missing}"
        raise HubMissing(message, hint="look at the name; for private ones: hf auth login")
    raise strange(what, f"status {answer.status}")


def strange(what: str, said: str) -> HubBusy:
    """The error for an answer that no Hub gives in good health."""
    return HubBusy(f"{what}: the Hub answers with {said}", hint="run the same command again later")


def transport_errors() -> tuple[type[Exception], ...]:
    """What the library's client raises when no answer comes."""
    from huggingface_hub import errors  # noqa: PLC0415 (as above)

    return (errors.HTTPError, OSError)  # type: ignore[attr-defined]
