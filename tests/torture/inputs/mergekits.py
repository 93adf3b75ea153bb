"""mergekit's recipes beside merges, and in their cards: what they claim."""

from torture.chance import Chance
from torture.court import Court
from torture.ground import Ground
from torture.inputs import recipes
from torture.neighbourhood import scanned

from registry.checkpoint import read_checkpoint
from registry.claims import read_claims

WHAT = "mergekit_config.yml"


def attempt(chance: Chance, court: Court, ground: Ground) -> None:
    """Read what a few recipes claim; now and then scan them."""
    folder = ground.clear()
    is_tree = chance.now_and_then(0.1)
    n = chance.randrange(1, 4) if is_tree else 1
    for i in range(n):
        place = ground.copy("chat", f"tree/m{i}")
        for _ in range(1 if is_tree else 6):
            raw = recipes.made(chance)
            if chance.now_and_then(0.3):
                (place / "README.md").write_bytes(b"---\ntags: [merge]\n---\n# M\n```yaml\n" + raw + b"\n```\n")  # fmt: skip
            else:
                (place / chance.one(("mergekit_config.yml", "recipe.yaml"))).write_bytes(raw)
            if not is_tree:
                court.reads("read_claims", lambda at=place: read_claims(read_checkpoint(at)))
    if is_tree:
        scanned(court, ground, chance, n_questions=2)
    assert folder.exists()
