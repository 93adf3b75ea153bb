"""Writing to the Hugging Face Hub: files in one commit, or not at all. The only place that writes there; a door to huggingface_hub.

Large files are sent first and belong to nothing until a commit names them. The commit is made on what the branch held when
we began, or refused. So whatever stops a push leaves the branch as it was, and what was sent need not be sent again.
"""

import hashlib
import random
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from registry.errors import (
    DamagedDownload,
    HubBusy,
    HubMissing,
    HubMoved,
    HubRefused,
    Interrupted,
    RequestsSpent,
)
from registry.file_ref import state_of
from registry.hub import Hub, HubFile, Listed
from registry.hub_failure import failure_of, library_errors
from registry.hub_requests import MOST_WAITS
from registry.version import VERSION

if TYPE_CHECKING:
    from huggingface_hub import CommitOperationAdd

MAIN = "main"
"""The branch that every repository has."""

_SILENCE_SECONDS = 600.0  # of the Hub while it makes a commit of thousands of files
_LONGEST_WAIT_SECONDS = 8.0
_LONGEST_ASKED_SECONDS = 900.0
_LARGEST_BLOB = 100_000_000  # bytes of a file that is not large to the Hub
_SHA256_DIGITS = 64

_T = TypeVar("_T")


@dataclass(frozen=True)
class Upload:
    """One file as it is to be in the repository.

    Attributes:
        path: in the repository, with slashes.
        content: a file on this machine, or the bytes themselves.
        size_bytes: of it.
        mtime_ns: of the file on this machine, when it was looked at; 0 for bytes.
    """

    path: str
    content: Path | bytes
    size_bytes: int
    mtime_ns: int = 0

    @property
    def is_unchanged(self) -> bool:
        """Whether the file on this machine is the one that was looked at."""
        if isinstance(self.content, bytes):
            return True
        try:
            status = self.content.stat()
        except OSError:
            return False
        return state_of(status)[:2] == (self.size_bytes, self.mtime_ns)


@dataclass(frozen=True)
class Target:
    """Where files go.

    Attributes:
        name: "org/name".
        branch: of the repository; made if there is none of that name.
        private: whether only its owners may see it; of a repository that is there already, what it must be.
        pull_request: propose the commit for the branch, and leave that as it is.
    """

    name: str
    branch: str = MAIN
    private: bool = False
    pull_request: bool = False


@dataclass(frozen=True)
class Pushed:
    """What is on the Hub now.

    Attributes:
        repository: the name it has there, and the commit.
        revision: branch that the commit is on.
        url: of the commit; of the pull request, where one was opened.
        created: whether the repository was made for it.
        unchanged: whether all of it was there already, so that no commit was needed.
        removed: paths that would have contradicted what was pushed.
        replaced: paths whose contents were others.
        files: all of the repository at the commit; None when the Hub would not list them any more.
    """

    repository: Listed
    revision: str
    url: str
    created: bool
    unchanged: bool
    removed: tuple[str, ...]
    replaced: tuple[str, ...]
    files: tuple[HubFile, ...] | None


def refuse_without_token(what: str) -> None:
    """Refuse to begin what the Hub would refuse.

    Raises:
        HubRefused: no token is known.
    """
    from huggingface_hub import get_token  # noqa: PLC0415 (0.1 s; only who uses the Hub pays)

    if get_token() is None:
        message = f"{what}: no token is known, and without one nothing can be written to the Hub"
        raise HubRefused(message, hint="hf auth login, or HF_TOKEN in the environment")


def push(
    hub: Hub,
    target: Target,
    uploads: Sequence[Upload],
    *,
    message: str,
    is_stale: Callable[[str], bool],
    refuse_change: Callable[[], None],
    bars: bool = False,
) -> Pushed:
    """Make one commit of files; the repository and the branch are made if need be.

    Args:
        hub: which.
        target: where.
        uploads: the files.
        message: of the commit.
        is_stale: tells of a path that is there and not among the files whether it would contradict them; it is removed.
        refuse_change: raises when the files are no longer what was to be pushed; asked last before the commit.
        bars: show on a terminal how far it is.

    Raises:
        HubRefused: no token, no right, or a name that is taken.
        HubMissing: there is no repository to open a pull request at.
        HubMoved: somebody else made a commit meanwhile.
        HubRejected: the Hub does not take one of the files.
        HubBusy: it could not be reached, or the connection broke.
        Interrupted: Ctrl-C.
        DamagedDownload: what the Hub lists afterwards is not what was sent.
    """
    refuse_without_token(f"hf://{target.name}")
    with _bounded(bars=bars):
        return _Push(hub, target, message, refuse_change).run(uploads, is_stale)


class _Push:
    """One push.

    Attributes:
        hub: that is asked.
        target: where to.
        name: of the repository, as the Hub has it now.
        parent: commit on which ours is made.
        created: the repository was made for it.
        begins_branch: the branch is yet to be made.
        state: what is on the Hub, in words for errors.
    """

    def __init__(
        self, hub: Hub, target: Target, message: str, refuse_change: Callable[[], None]
    ) -> None:
        from huggingface_hub import HfApi  # noqa: PLC0415 (as above)

        self.hub, self.target, self.name = hub, target, target.name
        self.parent, self.created, self.begins_branch = "", False, False
        self.state = "nothing was written"
        self._message, self._refuse_change = message, refuse_change
        self._additions: list[CommitOperationAdd] = []
        self._api: HfApi = HfApi(
            endpoint=hub.requests.endpoint, library_name="homolog", library_version=VERSION
        )

    @property
    def what(self) -> str:
        """The place, in the words of errors."""
        branch = "" if self.target.branch == MAIN else f"@{self.target.branch}"
        return f"hf://{self.name}{branch}"

    def run(self, uploads: Sequence[Upload], is_stale: Callable[[str], bool]) -> Pushed:
        """Do all of it."""
        try:
            self._additions = [self._ask(_addition, upload, tries=1) for upload in uploads]
            self._begin()
            there = self.hub.files(Listed(self.name, self.parent, self.name))
            ours = {upload.path for upload in uploads}
            removed = sorted(f.path for f in there if f.path not in ours and is_stale(f.path))
            self._send()
            etags = {file.path: file.etag for file in there}
            held = [(a, etags[a.path_in_repo]) for a in self._additions if a.path_in_repo in etags]
            replaced = sorted(a.path_in_repo for a, etag in held if not _is_content(a, etag))
            self._refuse_change()
            commit, url, revision = self._commit(removed)
        except KeyboardInterrupt as stop:
            text = f"{self.what}: {self.state}; what was sent need not be sent again"
            raise Interrupted(text) from stop
        except (HubBusy, HubMissing, HubRefused, RequestsSpent) as error:
            if self.state in error.message:
                raise
            message = f"{error.message}; {self.state}"
            raise type(error)(message, hint=error.hint) from error
        pushed = Listed(self.name, commit, self.target.name)
        return Pushed(
            pushed, revision, url, self.created, commit == self.parent, tuple(removed),
            tuple(replaced), self._seen(pushed),
        )  # fmt: skip

    def _begin(self) -> None:
        """Find the repository and the commit to follow, or make the repository."""
        try:
            found = self.hub.pin(self.name)
        except HubMissing:
            if self.target.pull_request:
                raise
            self._ask(self._api.create_repo, self.name, private=self.target.private)
            self.created = True
            found = self.hub.pin(self.name)
        self.name, self.parent = found.name, found.commit
        self.state = "nothing was committed, and the repository is as it was"
        if self.created:
            kind = "private" if self.target.private else "public"
            self.state = f"nothing was committed; the {kind} repository was made, and is empty"
        elif self.target.private and not self.hub.is_private(self.name):
            message = f"{self.what}: is there already and public; --private makes new ones private"
            hint = "make it private in its settings on the Hub, or leave --private out"
            raise HubRefused(message, hint=hint)
        if self.target.branch != MAIN:
            try:
                self.parent = self.hub.pin(self.name, self.target.branch).commit
            except HubMissing:
                self.begins_branch = True

    def _send(self) -> None:
        """Send the large files; they belong to nothing yet. The library tries again by itself."""
        revision = MAIN if self.begins_branch else self.target.branch
        self._ask(
            self._api.preupload_lfs_files, self.name, self._additions, free_memory=False,
            revision=revision, create_pr=self.target.pull_request, tries=1,
        )  # fmt: skip

    def _commit(self, removed: Sequence[str]) -> tuple[str, str, str]:
        """Make the commit: its name, where it is shown, and the branch it is on."""
        from huggingface_hub import CommitOperationDelete  # noqa: PLC0415 (as above)

        proposed, branch = self.target.pull_request, self.target.branch
        if self.begins_branch:
            self._ask(self._api.create_branch, self.name, branch=branch, revision=self.parent)
            self.state += f"; the branch {branch} was made"
        gone = [CommitOperationDelete(path_in_repo=path, is_folder=False) for path in removed]
        title, _, rest = self._message.partition("\n")
        try:
            info = self._ask(
                self._api.create_commit, self.name, [*self._additions, *gone], commit_message=title,
                commit_description=rest.strip(), revision=branch, parent_commit=self.parent,
                create_pr=proposed, tries=1 if proposed else None,
            )  # fmt: skip
        except (HubBusy, HubMoved):
            landed = None if proposed else self._landed()
            if landed is None:
                raise
            return landed, f"{self.hub.requests.endpoint}/{self.name}/commit/{landed}", branch
        if proposed:
            return info.oid, str(info.pr_url or info.commit_url), info.pr_revision or branch
        return info.oid, info.commit_url, branch

    def _landed(self) -> str | None:
        """Our commit, if it is there although the Hub's answer got lost."""
        now = self.hub.pin(self.name, self.target.branch)
        is_ours = now.commit != self.parent and self._holds(self.hub.files(now))
        return now.commit if is_ours else None

    def _seen(self, pushed: Listed) -> tuple[HubFile, ...] | None:
        """What the Hub lists, once it is sure that it is what was sent; None when it does not list it now."""
        try:
            files = self.hub.files(pushed)
        except (HubBusy, HubMissing, HubRefused, RequestsSpent):
            return None
        if not self._holds(files):
            there = {file.path for file in files}
            lacks = sorted(a.path_in_repo for a in self._additions if a.path_in_repo not in there)
            said = f"lacks {', '.join(lacks)}" if lacks else "holds other bytes than were sent"
            message = f"{pushed.uri}: the commit was made, and {said}"
            raise DamagedDownload(message, hint="look at its .gitignore, if it has one")
        return files

    def _holds(self, files: Sequence[HubFile]) -> bool:
        """Whether a listing has all that is pushed, with the right contents."""
        there = {file.path: file.etag for file in files}
        return all(_is_content(a, there.get(a.path_in_repo, "")) for a in self._additions)

    def _ask(
        self, call: Callable[..., _T], *words: Any, tries: int | None = None, **named: Any
    ) -> _T:
        """Let the library write, and again while what goes wrong may pass.

        Raises:
            RegError: what went wrong, and what is on the Hub now.
        """
        for n_left in reversed(range(tries or MOST_WAITS + 1)):
            try:
                return call(*words, **named)
            except library_errors() as error:
                hashed = [a for a in self._additions if a.upload_info.is_hashed]
                names = {a.upload_info.sha256.hex(): a.path_in_repo for a in hashed}
                failure = failure_of(error, names)
                too_long = failure.wait_seconds > _LONGEST_ASKED_SECONDS
                if not n_left or not failure.may_pass or too_long:
                    raise failure.named(self.what, self.state) from error
                jitter = random.uniform(0.75, 1.25)  # noqa: S311 (so that many do not come all at once)
                backoff = 2.0 ** (MOST_WAITS - n_left) * jitter
                time.sleep(max(failure.wait_seconds, min(_LONGEST_WAIT_SECONDS, backoff)))
        raise AssertionError(call)  # the last try returns or raises


def _addition(upload: Upload) -> "CommitOperationAdd":
    """A file as the library wants it."""
    from huggingface_hub import CommitOperationAdd  # noqa: PLC0415 (as above)

    content = upload.content if isinstance(upload.content, bytes) else str(upload.content)
    return CommitOperationAdd(path_in_repo=upload.path, path_or_fileobj=content)


def _is_content(addition: "CommitOperationAdd", etag: str) -> bool:
    """Whether the Hub calls the content of a file so: the SHA-256 of a large one, git's blob id of a small one."""
    if len(etag) == _SHA256_DIGITS:
        return addition.upload_info.sha256.hex() == etag
    if not etag or addition.upload_info.size > _LARGEST_BLOB:
        return False
    with addition.as_file() as file:
        content = file.read()
    blob = b"blob %d\0" % len(content) + content
    return hashlib.sha1(blob, usedforsecurity=False).hexdigest() == etag


@contextmanager
def _bounded(*, bars: bool) -> Iterator[None]:
    """Let the library wait for no answer for ever, and draw its bars only where they are wanted."""
    from huggingface_hub import get_session  # noqa: PLC0415 (as above)
    from huggingface_hub.utils import (  # type: ignore[attr-defined]  # noqa: PLC0415 (as above)
        are_progress_bars_disabled,
        disable_progress_bars,
        enable_progress_bars,
    )

    client = get_session()
    before, hidden = client.timeout, not bars and not are_progress_bars_disabled()
    client.timeout = _SILENCE_SECONDS
    if hidden:
        disable_progress_bars()
    try:
        yield
    finally:
        client.timeout = before
        if hidden:
            enable_progress_bars()
