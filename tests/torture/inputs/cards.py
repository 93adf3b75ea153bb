"""Cards: YAML before text, and the lists of results in it."""

from torture.chance import Chance
from torture.court import Court
from torture.ground import Ground
from torture.neighbourhood import scanned

from registry.card import read_card
from registry.checkpoint import read_checkpoint
from registry.claims import read_claims
from registry.documents import dump_yaml
from registry.scores import read_scores

WHAT = "cards"

_CARD = {
    "license": "apache-2.0",
    "license_name": "own",
    "license_link": "LICENSE",
    "base_model": ["base", "org/name"],
    "base_model_relation": "finetune",
    "tags": ["merge", "base_model:finetune:base", "license:mit"],
    "language": "en",
    "datasets": ["org/data"],
    "library_name": "transformers",
    "pipeline_tag": "text-generation",
    "new_version": "org/newer",
    "model-index": [
        {
            "name": "m",
            "results": [
                {
                    "task": {"type": "text-generation", "name": "t"},
                    "dataset": {"name": "d", "type": "org/d", "config": "c", "split": "test", "revision": "x"},
                    "metrics": [{"type": "acc", "value": 0.5, "name": "a", "verified": True}],
                    "source": {"name": "s", "url": "https://example.org"},
                }
            ],
        }
    ],
}  # fmt: skip
_WORDS = (*_CARD, "merge", "adapter", "quantized", "mit", "llama3", "gpl-3.0", "other", "unknown", "value", "type", "results")  # fmt: skip


def attempt(chance: Chance, court: Court, ground: Ground) -> None:
    """Read cards; now and then scan a few, or push one."""
    folder = ground.clear()
    if chance.now_and_then(0.05):
        for i in range(chance.randrange(1, 5)):
            ground.copy(chance.one(("chat", "adapter")), f"tree/m{i}")
            (folder / "tree" / f"m{i}" / "README.md").write_bytes(_made(chance))
        scanned(court, ground, chance, n_questions=3)
        return
    if chance.now_and_then(0.03):
        (folder / "card.md").write_bytes(_made(chance))
        ground.catalog()
        court.types("push", "chat", "org/name", "--dry-run", "--card", "card.md")
        return
    file = ground.copy("chat") / "README.md"
    for _ in range(5):
        content = _made(chance)
        file.write_bytes(content)
        court.reads("read_card", lambda text=content: read_card(text.decode(errors="replace")))
        checkpoint = court.reads("read_checkpoint", lambda: read_checkpoint(file.parent))
        court.reads("read_claims", lambda found=checkpoint: read_claims(found))
        court.reads("read_scores", lambda found=checkpoint: read_scores(found))


def _made(chance: Chance) -> bytes:
    """A card, most often with damage."""
    card = chance.damaged(_CARD, vocabulary=_WORDS) if chance.now_and_then(0.8) else _CARD
    try:
        text = dump_yaml(card)
    except UnicodeEncodeError:
        text = "license: mit\n"
    if chance.now_and_then(0.3):
        place = chance.randrange(len(text) + 1)
        text = text[:place] + chance.text() + text[place + chance.randrange(3) :]
    fence = chance.one(("---\n",) * 8 + ("---", "--- \n", "...\n", "\n---\n"))
    found = f"---\n{text}{fence}# Title\n{chance.text()}\n".encode(errors="surrogatepass")
    return chance.spoilt(found) if chance.now_and_then(0.2) else found
