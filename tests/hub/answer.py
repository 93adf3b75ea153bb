"""What is asked, and what is answered."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from http.client import HTTPMessage
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit


@dataclass(frozen=True)
class Call:
    """A request, taken apart.

    Attributes:
        method: GET, HEAD, …
        parts: of the path, each unquoted after the path was cut at its slashes.
        query: name → all values.
        headers: without regard to case.
        body: all of it.
        target: path and query as they came.
    """

    method: str
    parts: tuple[str, ...]
    query: Mapping[str, list[str]]
    headers: HTTPMessage
    body: bytes
    target: str

    @classmethod
    def of(cls, method: str, target: str, headers: HTTPMessage, body: bytes) -> "Call":
        """Take a request apart."""
        split = urlsplit(target)
        parts = tuple(unquote(part) for part in split.path.split("/") if part)
        query = parse_qs(split.query, keep_blank_values=True)
        return cls(method, parts, query, headers, body, target)

    @property
    def token(self) -> str | None:
        """What came in the Authorization header."""
        given = self.headers.get("Authorization")
        return None if given is None else given.removeprefix("Bearer ")

    def one(self, name: str) -> str | None:
        """The last value of a parameter of the query."""
        values = self.query.get(name)
        return values[-1] if values else None

    def flag(self, name: str) -> bool:
        """Whether a parameter of the query says yes."""
        return (self.one(name) or "").lower() in {"1", "true"}

    def json(self) -> Any:
        """The body, read as JSON.

        Raises:
            RefusalError: it is none.
        """
        try:
            return json.loads(self.body)
        except ValueError as error:
            raise RefusalError(400, f"Invalid JSON: {error}") from error


@dataclass(frozen=True)
class Part:
    """Some bytes of a file: ``size`` of them from ``start`` on."""

    path: Path
    start: int
    size: int


@dataclass(frozen=True)
class Answer:
    """A status, headers and a body.

    Attributes:
        status: of HTTP.
        body: bytes, or those of a file.
        headers: beside the length.
    """

    status: int = 200
    body: bytes | Part = b""
    headers: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def json(cls, value: Any, status: int = 200, **headers: str) -> "Answer":
        """``value`` as JSON; times and the like as text."""
        kind = {"Content-Type": "application/json; charset=utf-8"}
        named = {name.replace("_", "-"): text for name, text in headers.items()}
        return cls(status, json.dumps(value, default=str).encode(), kind | named)

    @property
    def size(self) -> int:
        """Bytes of the body."""
        return self.body.size if isinstance(self.body, Part) else len(self.body)


class RefusalError(Exception):
    """A request that is not granted.

    Attributes:
        status: of HTTP, 400 and more.
        message: for people; also in the header X-Error-Message.
        code: in the header X-Error-Code; clients go by it.
        headers: beside those two.
    """

    def __init__(self, status: int, message: str, code: str = "", **headers: str):
        super().__init__(message)
        self.status = status
        self.message = message
        self.code = code
        self.headers = {name.replace("_", "-"): text for name, text in headers.items()}

    @property
    def answer(self) -> Answer:
        """As the client sees it."""
        said = {"X-Error-Message": self.message} | (
            {"X-Error-Code": self.code} if self.code else {}
        )
        answer = Answer.json({"error": self.message}, self.status)
        return Answer(self.status, answer.body, {**answer.headers, **said, **self.headers})
