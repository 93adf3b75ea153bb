"""Listed models give way to models of their names whose files were read, and come back."""

from conftest import moved, save_model, weights
from listings import BASE, CHAT, MERGE, all_rows, edges, models, take_in

from registry import hub_scan
from registry.scan import scan


def cached(monkeypatch, tmp_path, name, tensors, commit="1" * 40, **kwargs):
    """A model in the cache, as the Hub's client leaves it."""
    hub = tmp_path / "hub"
    monkeypatch.setenv("HF_HUB_CACHE", str(hub))
    return save_model(
        hub / f"models--{name.replace('/', '--')}" / "snapshots" / commit, tensors, **kwargs
    )


def test_a_cached_model_takes_the_place_of_the_listed_one(tmp_path, catalog, monkeypatch):
    take_in(catalog, tmp_path, CHAT, BASE, MERGE)
    cached(monkeypatch, tmp_path, "lab/base", weights(1))
    scan(catalog, ["hf-cache:lab/base"])
    assert models(catalog) == {
        "lab/base": "full", "lab/chat": "listed", "lab/both": "listed", "gone/one": "latent"
    }  # fmt: skip
    assert ("lab/chat", "lab/base", "finetune", "parent", 0.85) in edges(catalog)
    assert len(edges(catalog)) == 4
    (base,) = catalog.rows("select addresses, license from models where name = 'lab/base'")
    assert base["addresses"] == [f"hf-cache:lab/base@{'1' * 40}", "hf://lab/base"]

    cached(
        monkeypatch, tmp_path, "lab/chat", moved(weights(1), 2, 0.001), card="base_model: lab/base"
    )
    scan(catalog, ["hf-cache:"])
    assert models(catalog)["lab/chat"] == "full"
    # the card and the listing that repeats it count once
    assert ("lab/chat", "lab/base", "finetune", "parent", 0.9) in edges(catalog)
    assert len(edges(catalog)) == 4
    (chat,) = catalog.rows("select downloads, likes from models where name = 'lab/chat'")
    assert (chat["downloads"], chat["likes"]) == (7, 2)
    before = all_rows(catalog)
    scan(catalog, ["hf-cache:"])
    take_in(catalog, tmp_path, CHAT, BASE, MERGE)
    assert all_rows(catalog) == before


def test_the_order_of_scan_and_import_does_not_matter(tmp_path, catalog, monkeypatch):
    cached(monkeypatch, tmp_path, "lab/base", weights(1))
    cached(monkeypatch, tmp_path, "lab/chat", weights(2))
    scan(catalog, ["hf-cache:"])
    take_in(catalog, tmp_path, CHAT, BASE, MERGE)
    assert models(catalog) == {
        "lab/base": "full", "lab/chat": "full", "lab/both": "listed", "gone/one": "latent"
    }  # fmt: skip
    assert edges(catalog) == [
        ("lab/both", "gone/one", "merge", "model", 0.85),
        ("lab/both", "lab/base", "merge", "model", 0.85),
        ("lab/both", "lab/chat", "merge", "model", 0.85),
        ("lab/chat", "lab/base", "finetune", "parent", 0.85),
    ]


def test_a_folder_of_that_name_takes_the_place_and_gives_it_back(tmp_path, catalog):
    take_in(catalog, tmp_path, CHAT, BASE, MERGE)
    before = edges(catalog)
    folder = save_model(tmp_path / "models" / "lab" / "base", weights(1))
    scan(catalog, [str(tmp_path / "models")], headers_only=True)
    assert models(catalog) == {
        "base": "header", "lab/chat": "listed", "lab/both": "listed", "gone/one": "latent"
    }  # fmt: skip
    assert ("lab/chat", "base", "finetune", "parent", 0.85) in edges(catalog)
    assert len(edges(catalog)) == len(before)
    folder.rename(tmp_path / "elsewhere")
    scan(catalog, [str(tmp_path / "models")])
    assert models(catalog) == {
        "lab/base": "listed", "lab/chat": "listed", "lab/both": "listed", "gone/one": "latent"
    }  # fmt: skip
    assert edges(catalog) == before


def test_a_latent_model_that_only_listings_name_gives_way_too(tmp_path, catalog, monkeypatch):
    take_in(catalog, tmp_path, MERGE)
    cached(monkeypatch, tmp_path, "gone/one", weights(3))
    scan(catalog, ["hf-cache:"])
    assert models(catalog)["gone/one"] == "full"
    assert len(edges(catalog)) == 3


def test_of_two_revisions_the_listed_commit_is_meant(tmp_path, catalog, monkeypatch):
    take_in(catalog, tmp_path, CHAT, BASE | {"sha": "2" * 40})
    cached(monkeypatch, tmp_path, "lab/base", weights(1), commit="1" * 40)
    cached(monkeypatch, tmp_path, "lab/base", weights(2), commit="2" * 40)
    scan(catalog, ["hf-cache:"])
    (edge,) = catalog.rows("select parent from edges")
    assert edge["parent"] == catalog.find(f"hf-cache:lab/base@{'2' * 40}")
    assert sorted(models(catalog).values()) == ["full", "listed"]  # both revisions have one name
    assert len(catalog.rows("from models")) == 3


def test_a_card_that_names_a_listed_model_finds_it(tmp_path, catalog):
    take_in(catalog, tmp_path, BASE)
    save_model(tmp_path / "models" / "mine", weights(1), card="base_model: lab/base")
    scan(catalog, [str(tmp_path / "models")])
    assert edges(catalog) == [("mine", "lab/base", "finetune", "parent", 0.9)]
    assert catalog.rows("select detail from evidence") == [
        {"detail": "card says lab/base: found in a listing"}
    ]


def test_a_hub_scan_takes_no_listing_for_a_place_that_it_read(tmp_path, catalog):
    take_in(catalog, tmp_path, CHAT, BASE)
    assert hub_scan._remembered(catalog, with_gguf=False) == {}
