"""What goes wrong in the Hub library's own requests, in our words. A door to huggingface_hub.

Reading has its errors from `registry.hub_requests`; writing is left to the library, which raises a dozen classes and
wraps them into one another.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from json import JSONDecodeError

from registry.errors import (
    HubBusy,
    HubMissing,
    HubMoved,
    HubRefused,
    HubRejected,
    Offline,
    RegError,
    Unreadable,
)
from registry.hub_requests import PASSING, Answer, transport_errors
from registry.names import printable

_SHOWN = 300
_SECRET = "…"  # noqa: S105 (stands where a token was)
_TOKEN = re.compile(r"\bhf_[A-Za-z0-9]{8,}")
_AGAIN = "run the same command again; what was sent need not be sent again"


@dataclass(frozen=True)
class Failure:
    """One request that failed.

    Attributes:
        status: of HTTP; 0 when no answer came.
        wait_seconds: that the server asks for.
        code: its own word for what is wrong; "" without one.
        said: in its words, on one line and without any token; "" when it says nothing.
        broke: class of the error that ended the connection; "" when an answer came.
        local: what this machine refuses; "" when it is not to blame.
        offline: HF_HUB_OFFLINE is set.
    """

    status: int = 0
    wait_seconds: float = 0.0
    code: str = ""
    said: str = ""
    broke: str = ""
    local: str = ""
    offline: bool = False

    @property
    def may_pass(self) -> bool:
        """Whether the same request may do better later."""
        return bool(self.broke) or self.status in PASSING

    def named(self, what: str, state: str) -> RegError:
        """The error that we have for it.

        Args:
            what: is written to, in the words of errors.
            state: of the Hub, in words.
        """
        kind, problem, hint = self._kind()
        return kind(f"{what}: {problem}; {state}", hint=hint)

    def _kind(self) -> tuple[type[RegError], str, str]:
        """The class, what is wrong, and what to do."""
        said = f" ({self.said})" if self.said else ""
        if self.offline:
            return Offline, "HF_HUB_OFFLINE is set", "unset HF_HUB_OFFLINE"
        if self.local:
            return Unreadable, self.local, "look at the file, and push again"
        if self.code == "GatedRepo":
            return HubRefused, f"is gated, and its owner has not let you in{said}", "ask its owner"
        if self.status in _KINDS:
            kind, problem, hint = _KINDS[self.status]
            return kind, problem + said, hint
        if self.may_pass:
            what = f"the Hub answered with status {self.status}{said}"
            return (
                HubBusy,
                f"the connection to the Hub broke ({self.broke})" if self.broke else what,
                _AGAIN,
            )
        return (
            HubRejected,
            f"the Hub does not take it{said}",
            "change what it names, and push again",
        )


_LOGIN = "hf auth login with a token that may write there"
_KINDS: Mapping[int, tuple[type[RegError], str, str]] = {
    401: (HubRefused, "the Hub does not accept the token", _LOGIN),
    402: (HubRefused, "the Hub wants to be paid for it", "look at the owner's plan on the Hub"),
    403: (HubRefused, "the token has no right to write there", f"{_LOGIN}, or --create-pr"),
    404: (HubMissing, "there is no such repository or branch any more, or it is private", _LOGIN),
    409: (HubRefused, "is there already, and not yours to see", "reg push under another name"),
    412: (HubMoved, "somebody else made a commit meanwhile", "look at it, and push again"),
    413: (HubRejected, "a file is too large for the Hub", "reg merge --shard-size makes smaller ones"),
}  # fmt: skip
"""Status → class, what is wrong, what to do."""


def library_errors() -> tuple[type[Exception], ...]:
    """All that the library raises when it writes."""
    return (*transport_errors(), OSError, ValueError, RuntimeError)


def failure_of(error: BaseException, names: Mapping[str, str]) -> Failure:
    """What an error of the library, or one that it wraps, is about.

    Args:
        error: of `library_errors`.
        names: what the library calls files (SHA-256, hex) → what they are called here.
    """
    from huggingface_hub.errors import OfflineModeIsEnabled  # noqa: PLC0415 (as elsewhere)

    chain = list(_chain(error))
    for one in chain:
        response = getattr(one, "response", None)
        if isinstance(one, OfflineModeIsEnabled):
            return Failure(offline=True)
        if response is not None and hasattr(response, "status_code"):
            answer = Answer(response.status_code, dict(response.headers), b"", "")
            said = getattr(one, "server_message", None) or answer.headers.get("x-error-message", "")
            code = answer.headers.get("x-error-code", "")
            return Failure(answer.status, answer.wait_seconds, code, _said(str(said), names))
        if isinstance(one, OSError) and one.filename is not None:
            return Failure(local=_said(f"{one.filename}: {one.strerror}", names))
    passing = (*transport_errors(), JSONDecodeError)
    broke = next((type(one).__name__ for one in reversed(chain) if isinstance(one, passing)), "")
    said = "" if broke else _said(str(chain[-1]), names) or type(chain[-1]).__name__
    return Failure(broke=broke, said=said)


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """An error and those that it came of, each once."""
    seen: list[BaseException] = []
    while error is not None and error not in seen:
        seen.append(error)
        yield error
        error = error.__cause__ or error.__context__


def _said(text: str, names: Mapping[str, str]) -> str:
    """Words of the library or the Hub on one line, files by their names, and no token among them."""
    from huggingface_hub import get_token  # noqa: PLC0415 (as above)

    token = get_token()
    text = text.replace(token, _SECRET) if token else text
    for digest, name in names.items():
        text = text.replace(digest, name)
    return printable(" ".join(_TOKEN.sub(_SECRET, text).split()))[:_SHOWN]
