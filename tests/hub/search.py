"""Which repositories a list asks for."""

import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from hub.answer import Answer, Call, RefusalError
from hub.facts import listed, moment
from hub.pages import page
from hub.repo import Repo
from hub.store import Collection

if TYPE_CHECKING:
    from hub.server import LocalHub

_KNOWN = {
    "author", "search", "filter", "limit", "cursor", "sort", "direction", "full", "expand", "cardData", "config",
    "gated", "pipeline_tag", "num_parameters",
}  # fmt: skip

_SORTS: dict[str, Callable[[Repo], Any]] = {
    "downloads": lambda repo: repo.downloads,
    "likes": lambda repo: repo.likes,
    "createdAt": lambda repo: repo.created,
    "lastModified": lambda repo: repo.head.date,
    "trendingScore": lambda repo: repo.likes,
}

_UNITS = {"": 1, "K": 10**3, "M": 10**6, "B": 10**9, "T": 10**12}

SHOWN_ITEMS = 4
"""Items of a collection that a list of collections shows."""


def models(hub: "LocalHub", call: Call) -> Answer:
    """A page of the repositories that meet all conditions, the greatest first when an order is asked for.

    Raises:
        RefusalError: a condition or an order that is unknown here, lest a test believe that it was met.
    """
    if unknown := sorted(set(call.query) - _KNOWN):
        raise RefusalError(400, f"This hub cannot list by {', '.join(unknown)}")
    visible = [repo for repo in hub.store if hub.access.is_owner(call) or not repo.private]
    found = [repo for repo in visible if _meets(repo, call)]
    if sort := call.one("sort"):
        if sort not in _SORTS:
            raise RefusalError(400, f'"sort" must be one of {", ".join(_SORTS)}, not {sort}')
        found.sort(key=_SORTS[sort], reverse=call.one("direction") != "1")
    more = [name for name in ("cardData", "config") if call.flag(name)]
    expand, full = call.query.get("expand", []), call.flag("full")
    lazily = _Told(found, lambda repo: listed(repo, hub.store, expand, full=full, more=more))
    return page(hub.endpoint, call, lazily, hub.page_size)


class _Told(list[Any]):
    """Repositories of which only those of a slice are told of."""

    def __init__(self, repos: list[Repo], tell: Callable[[Repo], Any]):
        super().__init__(repos)
        self._tell = tell

    def __getitem__(self, index: Any) -> Any:
        return [self._tell(repo) for repo in super().__getitem__(index)]


def _meets(repo: Repo, call: Call) -> bool:
    author, search = call.one("author"), call.one("search")
    if author is not None and repo.owner != author:
        return False
    if search is not None and search.lower() not in repo.id.lower():
        return False
    if "gated" in call.query and call.flag("gated") != bool(repo.gated):
        return False
    tags = repo.all_tags(repo.head)
    wanted = [tag for value in call.query.get("filter", []) for tag in value.split(",")]
    wanted += call.query.get("pipeline_tag", [])
    if any(tag not in tags for tag in wanted):
        return False
    size = call.one("num_parameters")
    return size is None or _within(sum(repo.head.n_parameters.values()), size)


def _within(n: int, limits: str) -> bool:
    """Whether ``n`` lies within ``min:6B,max:128B``; either may be missing."""
    for limit in limits.split(","):
        found = re.fullmatch(r"(min|max):([\d.]+)([KMBT]?)", limit)
        if found is None:
            raise RefusalError(400, f'"num_parameters" cannot be {limits}')
        bound = float(found[2]) * _UNITS[found[3]]
        if n < bound if found[1] == "min" else n > bound:
            return False
    return True


def collections(hub: "LocalHub", call: Call) -> Answer:
    """A page of the collections of an owner, or of those that hold an item; few items of each."""
    found = list(hub.store.collections.values())
    if owners := call.query.get("owner"):
        found = [one for one in found if one.slug.partition("/")[0] in owners]
    for item in call.query.get("item", []):
        found = [one for one in found if item.removeprefix("models/") in one.items]
    told = [_collection(hub, call, one) for one in found]
    for one in told:
        one["items"] = one["items"][:SHOWN_ITEMS]
        del one["position"]
    return page(hub.endpoint, call, told, hub.page_size)


def collection(hub: "LocalHub", call: Call, slug: str) -> Answer:
    """One collection with all items that the one who asks may know of.

    Raises:
        RefusalError: there is none.
    """
    found = hub.store.collections.get(slug)
    if found is None:
        raise RefusalError(404, "Collection not found")
    return Answer.json(_collection(hub, call, found))


def _collection(hub: "LocalHub", call: Call, found: Collection) -> dict[str, Any]:
    repos = [hub.store.get(item) for item in found.items]
    seen = [r for r in repos if r is not None and (hub.access.is_owner(call) or not r.private)]
    items = [
        {"_id": f"{i:024x}", "id": repo.id, "type": "model", "position": i}
        for i, repo in enumerate(seen)
    ]
    latest = max((repo.head.date for repo in seen), default=hub.started)
    return {
        "slug": found.slug,
        "title": found.title,
        "description": found.description,
        "owner": {"name": found.slug.partition("/")[0], "type": "org"},
        "items": items,
        "lastUpdated": moment(latest),
        "position": 0,
        "private": False,
        "theme": "green",
        "upvotes": 0,
    }
