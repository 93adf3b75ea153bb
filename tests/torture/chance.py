"""Values, texts and bytes that nobody would write, and small damage to those that somebody did.

All of it is drawn from one stream of random numbers: the same stream makes the same input, and a fuzzer that steers by
coverage may give the stream itself (`Steered`).
"""

import json
import random
from collections.abc import Sequence
from typing import Any, TypeVar

_T = TypeVar("_T")

TEXTS = (
    "", " ", ".", "..", "../..", "/", "/etc/passwd", "~", "~nobody-of-this-name/x", "a/b", "org/name", "hf://org/name",
    "hf://org/*", "hf:search?", "hf-cache:", "base", "chat", "base+chat", "a" * 255, "a" * 300, "ä" * 128, "\0", "\x1b[31mred",
    "\x1b]0;title\x07", "\r", "a\nb", "\t", "\u202eright to left", "\u200b", "\ufeff", "\u2028", "é", "e\u0301", "🦜", "[bold]x[/]",
    "%s", "%n", "{}", "{0.__class__}", "${HOME}", "$(id)", "`id`", "'; drop table store.model; --", '"', "'", "\\", "-", "--", "-o",
    "--help", "null", "true", "no", "NaN", "Infinity", "-0", "1e999", "0x10", "1_000", "١٢", "²", "9" * 30, "1.0", "+1", "inf",
    "float32", "bfloat16", "BF16", "F8_E4M3", "linear", "ties", "auto", "union", "default", "model.safetensors", "lm_head.weight",
    "*", "[", "(", ".*", "(a+)+$", "\\d", "!!python/object:os.system", "&a", "*a", "<<", "#", ":", "---", "a: b", "- a", "{a: 1}",
)  # fmt: skip
"""Texts with a meaning somewhere."""

NUMBERS = (
    0, 1, -1, 2, 3, 7, 8, 16, 100, 255, 256, 1000, 2**15, 2**16, 2**31 - 1, 2**31, 2**32, 2**53 + 1, 2**63 - 1, 2**63, 2**64, -(2**63),
    -(2**63) - 1, 10**30, 10**400, 0.0, -0.0, 0.5, 1.0, 1.5, -1.5, 1e-320, 1e308, float("inf"), float("-inf"), float("nan"),
)  # fmt: skip
"""Numbers at the ends of ranges."""


class Chance(random.Random):
    """A stream of random numbers, and what can be made of it."""

    def one(self, things: Sequence[_T]) -> _T:
        """One of some things."""
        return things[self.randrange(len(things))]

    def now_and_then(self, share: float = 0.1) -> bool:
        """True in this share of all calls."""
        return self.random() < share

    def text(self) -> str:
        """A text, most likely one with a meaning somewhere."""
        if self.now_and_then(0.7):
            return self.one(TEXTS)
        if self.now_and_then(0.5):
            return self.one(TEXTS) + self.one(TEXTS)
        return "".join(
            chr(self.one((self.randrange(128), self.randrange(0x2FFF), self.randrange(0xE000, 0x1FFFF))))
            for _ in range(self.randrange(12))
        )  # fmt: skip

    def scalar(self) -> Any:
        """A value without parts."""
        return self.one((None, True, False, self.one(NUMBERS), self.one(NUMBERS), self.text()))

    def value(self, depth: int = 3) -> Any:
        """A JSON value."""
        if depth and self.now_and_then(0.35):
            return [self.value(depth - 1) for _ in range(self.randrange(4))]
        if depth and self.now_and_then(0.35):
            return {self.text(): self.value(depth - 1) for _ in range(self.randrange(4))}
        return self.scalar()

    def damaged(self, value: Any, times: int = 0, vocabulary: Sequence[str] = ()) -> Any:
        """A copy of a JSON value with a few places changed; ``vocabulary``: keys and words that mean something there."""
        changed = json.loads(json.dumps(value))
        for _ in range(times or self.randrange(1, 4)):
            changed = self._changed(changed, vocabulary)
        return changed

    def _changed(self, value: Any, words: Sequence[str]) -> Any:
        """A value with one place changed, at any depth."""
        if not isinstance(value, dict | list) or not value or self.now_and_then(0.1):
            return self._other(value, words)
        (self._change_object if isinstance(value, dict) else self._change_list)(value, words)
        return value

    def _change_object(self, value: dict[str, Any], words: Sequence[str]) -> None:
        """Change one place in an object."""
        key = self.one(list(value))
        match self.randrange(12):
            case 0:
                del value[key]
            case 1:
                value[self._word(words)] = value.pop(key)
            case 2:
                value[self._word(words)] = self.value(2)
            case 3:
                value[self.one(list(value))] = value[key]
            case _:
                value[key] = self._changed(value[key], words)

    def _change_list(self, value: list[Any], words: Sequence[str]) -> None:
        """Change one place in a list."""
        place = self.randrange(len(value))
        match self.randrange(10):
            case 0:
                del value[place]
            case 1:
                value.insert(place, self.one(value))
            case 2:
                value.insert(place, self.value(2))
            case 3:
                self.shuffle(value)
            case _:
                value[place] = self._changed(value[place], words)

    def _other(self, value: Any, words: Sequence[str]) -> Any:
        """A value in the place of another, often a near one."""
        near = value
        if isinstance(value, int | float):
            near = self._near(value)
        elif isinstance(value, str):
            near = self.one((value + self.text(), self.text() + value, value[:-1], value.upper(), value * 2))  # fmt: skip
        return self.one((
            [value], {self._word(words): value}, str(value), near, near, self._word(words), self.value(2), self.scalar(),
        ))  # fmt: skip

    def _near(self, number: float) -> float:
        """A number near another, or what it overflows to."""
        try:
            return self.one(
                (
                    number + 1,
                    number - 1,
                    -number,
                    number * 2,
                    number // 2,
                    number + 0.5,
                    number * 2**40,
                )
            )
        except OverflowError:
            return 0  # fmt: skip

    def _word(self, words: Sequence[str]) -> str:
        """A word that means something there, or any text."""
        return self.one(words) if words and self.now_and_then(0.7) else self.text()

    def spoilt(self, content: bytes, times: int = 0) -> bytes:
        """Bytes with a few places changed, cut, doubled or moved."""
        found = bytearray(content)
        for _ in range(times or self.randrange(1, 4)):
            place = self.randrange(len(found) + 1)
            end = min(len(found), place + self.one((1, 1, 2, 4, 8, 64, 4096)))
            match self.randrange(8):
                case 0:
                    del found[place:end]
                case 1:
                    del found[place:]
                case 2:
                    found[place:place] = found[self.randrange(len(found) + 1) :][:64]
                case 3:
                    found[place:place] = self.one(TEXTS).encode()
                case 4:
                    found[place:end] = bytes([self.one((0, 255, 32, 128))]) * (end - place)
                case 5 if end > place:
                    found[place] ^= 1 << self.randrange(8)
                case _ if end > place:
                    found[place] = self.randrange(256)
                case _:
                    found += b"\0"
        return bytes(found)

    def json(self, value: Any) -> bytes:
        """A value as JSON, in one of several spellings, now and then with its bytes spoilt."""
        text = json.dumps(value, ensure_ascii=self.now_and_then(0.5), indent=self.one((None, 1)))
        found = text.encode(errors="surrogatepass")
        if self.now_and_then(0.15):
            found = self.spoilt(found)
        return b"\xef\xbb\xbf" + found if self.now_and_then(0.05) else found


class Steered(Chance):
    """A stream that somebody else chose: the bits of some bytes, then zeros."""

    def __init__(self, content: bytes) -> None:
        super().__init__(0)
        self._left = int.from_bytes(content, "little")

    def getrandbits(self, k: int) -> int:
        """The next bits."""
        found = self._left & ((1 << k) - 1)
        self._left >>= k
        return found

    def random(self) -> float:
        """The next bits as a number in [0, 1)."""
        return self.getrandbits(16) / 65_536
