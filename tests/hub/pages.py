"""Long lists, in pages."""

import base64
import binascii
from typing import Any
from urllib.parse import urlencode, urlsplit

from hub.answer import Answer, Call, RefusalError


def page(endpoint: str, call: Call, items: list[Any], most: int) -> Answer:
    """The page of ``items`` that is asked for, and where the next one is.

    Args:
        endpoint: of the hub.
        call: with ``limit`` and ``cursor`` in its query.
        items: all of them.
        most: items of a page, whatever ``limit`` says.

    Raises:
        RefusalError: limit or cursor are none.
    """
    limit = call.one("limit")
    if limit is not None and not (limit.isdecimal() and int(limit)):
        raise RefusalError(400, f'"limit" must be a positive number, not {limit}')
    size = min(most, int(limit)) if limit else most
    start = _position(call.one("cursor"))
    answer = Answer.json(items[start : start + size])
    if start + size >= len(items):
        return answer
    cursor = base64.urlsafe_b64encode(b"at:%d" % (start + size)).decode()
    query = urlencode({**call.query, "cursor": [cursor]}, doseq=True)
    link = f'<{endpoint}{urlsplit(call.target).path}?{query}>; rel="next"'
    return Answer(answer.status, answer.body, {**answer.headers, "Link": link})


def _position(cursor: str | None) -> int:
    if cursor is None:
        return 0
    try:
        return int(base64.urlsafe_b64decode(cursor).removeprefix(b"at:"))
    except (binascii.Error, ValueError) as error:
        raise RefusalError(400, f"Invalid cursor: {cursor}") from error
