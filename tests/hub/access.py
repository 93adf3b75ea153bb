"""Who may do what."""

from dataclasses import dataclass

from hub.answer import Call, RefusalError
from hub.repo import Repo
from hub.store import Store


@dataclass
class Access:
    """Two people have a token; everybody else has none.

    Attributes:
        token: of one who may do everything.
        outsider: of one who is known, and neither may write nor is let in where there is a gate.
    """

    token: str = "hf_local_owner"  # noqa: S105
    outsider: str = "hf_local_outsider"

    def is_owner(self, call: Call) -> bool:
        """Whether the one with all rights asks."""
        return call.token == self.token

    def identify(self, call: Call) -> str | None:
        """Who asks: "owner", "outsider", or None.

        Raises:
            RefusalError: with a token that nobody has.
        """
        if call.token is None:
            return None
        if call.token not in {self.token, self.outsider}:
            raise RefusalError(401, "Invalid credentials in Authorization header")
        return "owner" if self.is_owner(call) else "outsider"

    def find(self, store: Store, repo_id: str, call: Call) -> Repo:
        """The repository, if the one who asks may know of it.

        Raises:
            RefusalError: there is none, or it is private: both look the same.
        """
        repo = store.get(repo_id)
        if repo is None or (repo.private and not self.is_owner(call)):
            raise self.missing(call)
        return repo

    def missing(self, call: Call) -> RefusalError:
        """A repository that is not there, or not for the one who asks."""
        if call.token is None:
            return RefusalError(401, "Invalid username or password.", "RepoNotFound")
        return RefusalError(404, "Repository not found", "RepoNotFound")

    def pass_gate(self, repo: Repo, call: Call) -> None:
        """Let through who may read the files.

        Raises:
            RefusalError: the repository is gated, and who asks is not let in.
        """
        if not repo.gated or self.is_owner(call):
            return
        if call.token is None:
            message = (
                f"Access to model {repo.id} is restricted. You must have access to it and be "
                "authenticated to access it. Please log in."
            )
            raise RefusalError(401, message, "GatedRepo")
        message = f"Access to model {repo.id} is restricted and you are not in the authorized list."
        raise RefusalError(403, message, "GatedRepo")

    def may_write(self, call: Call) -> None:
        """Let through who may change things.

        Raises:
            RefusalError: somebody else asks.
        """
        if call.token is None:
            raise RefusalError(401, "Invalid username or password.")
        if not self.is_owner(call):
            raise RefusalError(403, "You don't have the rights to do that: you need write access")
