"""A repository: its commits, and what the Hub adds to them."""

from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal

from hub.commit import Commit

Gate = Literal["auto", "manual", False]

SHORTEST_SHA = 7
"""Digits by which a commit may be named."""


@dataclass
class Repo:
    """A repository of a model.

    Attributes:
        id: owner and name; old repositories have only a name.
        created: when.
        gated: who lets people in; False: everybody is in.
        private: whether only its owner sees that it exists.
        extra_tags: beside those of the card.
        downloads: of the last month.
        likes: since ever.
        commits: sha → commit, oldest first.
        branches: name → sha.
        tags: name → sha.
    """

    id: str
    created: datetime
    gated: Gate = False
    private: bool = False
    extra_tags: tuple[str, ...] = ()
    downloads: int = 0
    likes: int = 0
    commits: dict[str, Commit] = field(default_factory=dict)
    branches: dict[str, str] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)

    @property
    def owner(self) -> str:
        """Who has it; "" for the old ones."""
        return self.id.rpartition("/")[0]

    @property
    def head(self) -> Commit:
        """The newest commit of the branch ``main``."""
        return self.commits[self.branches["main"]]

    def at(self, revision: str) -> Commit | None:
        """The commit of a branch, a tag, or a sha of which at least `SHORTEST_SHA` digits are given."""
        sha = self.branches.get(revision) or self.tags.get(revision) or revision
        if sha in self.commits:
            return self.commits[sha]
        if len(sha) < SHORTEST_SHA:
            return None
        found = [commit for name, commit in self.commits.items() if name.startswith(sha)]
        return found[0] if len(found) == 1 else None

    def line(self, commit: Commit) -> list[Commit]:
        """``commit`` and all before it, newest first."""
        found = [commit]
        while found[-1].parent:
            found.append(self.commits[found[-1].parent])
        return found

    def all_tags(self, commit: Commit) -> list[str]:
        """Of the card and of those who added it, sorted."""
        return sorted({*commit.tags, *self.extra_tags})
