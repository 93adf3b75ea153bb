"""Delta statistics as they are stored: the same as on whole tensors, whatever is aligned, cropped or missing."""

import json
import math
import os

import numpy as np
import pytest
import torch
from conftest import moved, save_model

from engine import stats
from engine.delta import Accumulators, accumulate, derived
from engine.reader import Reader
from engine.spectral import spectrum
from engine.stats import measure, pairs
from registry.errors import BadAddress, FileChanged, NotMergeable
from registry.scan import ensure, scan

EMBED, HEAD = "model.embed_tokens.weight", "lm_head.weight"
VOLATILE = {"seconds", "measured_at"}


def known(catalog, folder):
    return ensure(catalog, str(folder))


def stored(catalog, table, pair):
    rows = catalog.rows(
        f"select * from store.{table} where child = ? and base = ? order by all", pair
    )
    return [{k: v for k, v in row.items() if k not in VOLATILE} for row in rows]


def by_tensor(catalog, pair):
    return {row["tensor"]: row for row in stored(catalog, "delta", pair)}


@pytest.mark.parametrize("child", ["chat", "cpt"])
def test_rows_are_those_of_whole_tensors_and_of_numpy(child, shelf, family):
    pair = (shelf.find(child), shelf.find("base"))
    assert not measure(shelf, *pair).reused
    rows = by_tensor(shelf, pair)
    assert rows.keys() == family.deltas[child].keys()
    whole = Accumulators()
    for name, delta in family.deltas[child].items():
        row, base = rows[name], family.weights["base"][name]
        expected = accumulate(base, family.weights[child][name])
        whole += expected
        for key, value in expected.as_row().items():
            column = {"sum": "sum_delta", "min": "min_delta", "max": "max_delta"}.get(key, key)
            assert row[column] == value, (name, key)
        for key, value in derived(expected).items():
            if key.startswith(("abs_", "top")):
                assert row[key] == value, (name, key)
        d, w = delta.double().numpy(), base.double().numpy()
        assert row["status"] == "aligned"
        assert row["n"] == d.size
        assert row["sum_sq"] == pytest.approx(float(np.sum(d * d)), rel=1e-12)
        assert row["base_dot"] == pytest.approx(float(np.sum(d * w)), rel=1e-9, abs=1e-12)
        assert row["max_abs"] == np.abs(d).max()
        assert row["n_zero"] == np.count_nonzero(d == 0)
        assert json.loads(row["base_shape"]) == list(base.shape)
    (found,) = stored(shelf, "pair", pair)
    assert (found["n_aligned"], found["n_cropped"], found["n_only_child"]) == (len(rows), 0, 0)
    assert found["abs_p50"] == derived(whole)["abs_p50"]
    assert found["read_bytes"] == 2 * sum(2 * t.numel() for t in family.weights["base"].values())
    histogram = stored(shelf, "histogram", pair)
    for row in histogram:
        assert sum(row["counts"]) == rows[row["tensor"]]["n"] - rows[row["tensor"]]["n_zero"]
        found = [row[name] for name in ("bins", "counts", "sums_abs", "sums_sq")]
        expected = accumulate(*(family.weights[m][row["tensor"]] for m in ("base", child)))
        assert found == [column.tolist() for column in expected.histogram_rows()]
    assert {row["tensor"] for row in histogram} == {t for t, r in rows.items() if r["sum_sq"]}
    assert sum(sum(row["sums_sq"]) for row in histogram) == pytest.approx(whole.sum_sq)


def test_the_view_agrees_with_numpy(shelf, family):
    pair = (shelf.find("cpt"), shelf.find("base"))
    measure(shelf, *pair)
    (row,) = shelf.rows("select * from delta_summary where child_id = ? and base_id = ?", pair)
    delta = np.concatenate([d.double().numpy().ravel() for d in family.deltas["cpt"].values()])
    base = np.concatenate(
        [family.weights["base"][n].double().numpy().ravel() for n in family.deltas["cpt"]]
    )
    assert row["relative_l2"] == pytest.approx(np.linalg.norm(delta) / np.linalg.norm(base))
    assert row["within_005"] == pytest.approx(np.mean(np.abs(delta) <= np.float32(0.005)))
    cosine = base @ (base + delta) / np.linalg.norm(base) / np.linalg.norm(base + delta)
    assert row["cosine"] == pytest.approx(cosine)


def test_a_second_call_reads_nothing(shelf, tmp_path):
    pair = (shelf.find("chat"), shelf.find("base"))
    first = measure(shelf, *pair)
    before = [stored(shelf, t, pair) for t in ("pair", "delta", "histogram")]
    again = measure(shelf, *pair)
    assert (first.reused, again.reused, again.seconds) == (False, True, 0.0)
    assert [stored(shelf, t, pair) for t in ("pair", "delta", "histogram")] == before


def test_another_version_of_the_arithmetic_measures_again(shelf, monkeypatch):
    pair = (shelf.find("chat"), shelf.find("base"))
    measure(shelf, *pair)
    monkeypatch.setattr(stats, "VERSION", "another")
    assert not measure(shelf, *pair).reused
    assert [row["version"] for row in stored(shelf, "pair", pair)] == ["another"]
    assert measure(shelf, *pair).reused


def test_spectra_can_be_added_later_and_are_those_of_whole_matrices(shelf, family):
    pair = (shelf.find("chat"), shelf.find("base"))
    measure(shelf, *pair)
    deltas = stored(shelf, "delta", pair)
    assert not stored(shelf, "spectrum", pair)
    assert not measure(shelf, *pair, spectral=True).reused
    assert stored(shelf, "delta", pair) == deltas
    rows = {row["tensor"]: row for row in stored(shelf, "spectrum", pair)}
    matrices = {n for n, t in family.weights["base"].items() if t.dim() == 2}
    assert rows.keys() == matrices
    for name in ("lm_head.weight", "model.layers.1.mlp.down_proj.weight"):
        expected = spectrum(family.weights["base"][name], family.weights["chat"][name])
        values = np.linalg.svd(family.deltas["chat"][name].double().numpy(), compute_uv=False)
        assert rows[name]["sigma_max"] == pytest.approx(values[0])
        assert rows[name]["stable_rank"] == pytest.approx(expected.stable_rank)
    assert measure(shelf, *pair, spectral=True).reused
    assert measure(shelf, *pair).reused


def test_a_pair_without_any_change_is_measured_once(catalog, family, tmp_path):
    weights = family.weights["base"]
    save_model(tmp_path / "twin", {n: t.float() for n, t in weights.items()})
    pair = (known(catalog, tmp_path / "twin"), known(catalog, family.base))
    assert not measure(catalog, *pair, spectral=True).reused
    (row,) = catalog.rows("select * from delta_summary where child_id = ?", [pair[0]])
    assert (row["relative_l2"], row["max_abs"], row["zero_share"]) == (0.0, 0.0, 1.0)
    assert row["cosine"] == pytest.approx(1.0)
    assert measure(catalog, *pair, spectral=True).reused  # a zero delta has no spectrum


def test_threads_change_no_row(shelf, catalog, family):
    scan(catalog, [str(family.base), str(family.cpt)])
    pair = (shelf.find("cpt"), shelf.find("base"))
    measure(shelf, *pair, jobs=1)
    measure(catalog, *pair, jobs=3, spectral=True)
    for table in ("pair", "delta", "histogram"):
        assert stored(catalog, table, pair) == stored(shelf, table, pair)


def test_tensors_longer_than_a_slice_are_measured_whole(catalog, tmp_path, monkeypatch):
    generator = torch.Generator().manual_seed(1)
    base = {"w": torch.randn(5000, 17, generator=generator)}
    save_model(tmp_path / "base", base)
    save_model(
        tmp_path / "child", {"w": base["w"] + 0.001 * torch.randn(5000, 17, generator=generator)}
    )
    pair = (known(catalog, tmp_path / "child"), known(catalog, tmp_path / "base"))
    monkeypatch.setattr(stats, "_UNIT", 1000)
    measure(catalog, *pair)
    sliced = by_tensor(catalog, pair)["w"]
    monkeypatch.undo()
    with catalog.write() as transaction:
        transaction.execute("delete from store.pair")
    measure(catalog, *pair)
    for key, value in by_tensor(catalog, pair)["w"].items():
        assert sliced[key] == (pytest.approx(value) if isinstance(value, float) else value)


def test_every_status_is_told(catalog, family, tmp_path):
    base = dict(family.weights["base"])
    child = moved(base, 7, 0.001)
    grown = torch.cat([child[EMBED], torch.ones(5, 16).bfloat16()])
    child |= {EMBED: grown, HEAD: child[HEAD][:40].contiguous(), "extra.weight": torch.ones(3)}
    child["model.norm.weight"] = torch.ones(17).bfloat16()
    child["steps"] = torch.arange(3)
    base["steps"] = torch.arange(4)
    del child["model.layers.0.input_layernorm.weight"]
    save_model(tmp_path / "old", base)
    save_model(tmp_path / "new", child)
    pair = (known(catalog, tmp_path / "new"), known(catalog, tmp_path / "old"))
    measure(catalog, *pair, spectral=True)
    rows = by_tensor(catalog, pair)
    expected = {
        EMBED: ("cropped", 48 * 16), HEAD: ("cropped", 40 * 16), "extra.weight": ("only_child", None),
        "model.norm.weight": ("mismatched", None), "steps": ("uncounted", None),
        "model.layers.0.input_layernorm.weight": ("only_base", None),
    }  # fmt: skip
    for name, (status, n) in expected.items():
        assert (rows[name]["status"], rows[name]["n"], rows[name]["sum_sq"] is None) == (
            status,
            n,
            n is None,
        )
    same_rows = accumulate(base[EMBED], child[EMBED][:48])
    assert rows[EMBED]["sum_sq"] == same_rows.sum_sq
    assert (rows[EMBED]["child_shape"], rows[EMBED]["base_shape"]) == ("[53, 16]", "[48, 16]")
    (found,) = stored(catalog, "pair", pair)
    counts = {k: v for k, v in found.items() if k.startswith("n_")}
    assert counts == {
        "n_aligned": 15, "n_cropped": 2, "n_only_child": 1, "n_only_base": 1, "n_mismatched": 1, "n_uncounted": 1,
    }  # fmt: skip
    assert EMBED not in {row["tensor"] for row in stored(catalog, "spectrum", pair)}
    assert measure(catalog, *pair, spectral=True).reused


def test_dtypes_may_differ(catalog, family):
    pair = (known(catalog, family.chat), known(catalog, family.original))
    measure(catalog, *pair)
    row = by_tensor(catalog, pair)[HEAD]
    assert (row["child_dtype"], row["base_dtype"], row["status"]) == ("BF16", "F32", "aligned")
    delta = family.weights["chat"][HEAD].double() - family.weights["original"][HEAD].double()
    assert row["sum_sq"] == pytest.approx(float(delta.square().sum()), rel=1e-6)


def test_numbers_that_are_not_finite_are_counted(catalog, family, tmp_path):
    child = dict(family.weights["chat"])
    child[HEAD] = child[HEAD].clone()
    child[HEAD][2, 3], child[HEAD][4, 5] = math.nan, math.inf
    save_model(tmp_path / "broken", child)
    pair = (known(catalog, tmp_path / "broken"), known(catalog, family.base))
    measure(catalog, *pair, spectral=True)
    row = by_tensor(catalog, pair)[HEAD]
    assert (row["n_nonfinite"], row["n"]) == (2, 48 * 16 - 2)
    assert math.isfinite(row["sum_sq"])
    assert measure(catalog, *pair, spectral=True).reused


def heads(family, tmp_path, *, base_head, child_head):
    """A base and a child, each with its own head, a copy of the embedding, or none."""
    for name, kind, weights in (
        ("old", base_head, dict(family.weights["base"])),
        ("new", child_head, moved(family.weights["base"], 8, 0.001)),
    ):
        if kind == "copy":
            weights[HEAD] = weights[EMBED].clone()
        elif kind == "none":
            del weights[HEAD]
        save_model(tmp_path / name, weights, config={"tie_word_embeddings": kind != "own"})
    return tmp_path / "new", tmp_path / "old"


@pytest.mark.parametrize(
    ("child_head", "base_head", "compared"),
    [
        ("own", "none", (HEAD, EMBED)),
        ("own", "copy", (HEAD, EMBED)),
        ("none", "own", (EMBED, HEAD)),
        ("copy", "none", None),
        ("none", "copy", None),
        ("copy", "copy", None),
        ("own", "own", (HEAD, HEAD)),
    ],
)
def test_heads_are_compared_with_what_stands_for_them(
    *, child_head, base_head, compared, family, parent_at, tmp_path
):
    folders = heads(family, tmp_path, base_head=base_head, child_head=child_head)
    found = {p.name: p for p in stats._pair(*map(parent_at, folders))}
    assert {p.status for p in found.values()} == {"aligned"}
    head = found.get(HEAD)
    assert (head and (head.child.name, head.base.name)) == compared


def test_a_head_of_its_own_is_measured_against_the_tied_embedding(catalog, family, tmp_path):
    folders = heads(family, tmp_path, base_head="none", child_head="own")
    pair = tuple(known(catalog, folder) for folder in folders)
    measure(catalog, *pair)
    with Reader() as reader:
        new = reader.whole(catalog.checkpoint(pair[0]).tensor(HEAD))
        old = reader.whole(catalog.checkpoint(pair[1]).tensor(EMBED))
    assert by_tensor(catalog, pair)[HEAD]["sum_sq"] == accumulate(old, new).sum_sq


def test_pairs_are_children_with_bases_and_roots(shelf, family):
    base = shelf.find("base")
    expected = {(shelf.find(name), base) for name in ("chat", "math", "cpt")}
    assert set(pairs(shelf, None)) == expected
    assert pairs(shelf, [shelf.find("chat")]) == [(shelf.find("chat"), base)]
    assert pairs(shelf, [base, shelf.find("stranger")]) == []


def test_models_without_a_common_tensor_are_refused(catalog, family, tmp_path):
    save_model(tmp_path / "other", {"x": torch.ones(3)})
    pair = (known(catalog, tmp_path / "other"), known(catalog, family.base))
    with pytest.raises(NotMergeable, match="other and base have no weights of one name and shape"):
        measure(catalog, *pair)


def test_files_that_change_while_they_are_read_are_noticed(catalog, family, tmp_path):
    save_model(tmp_path / "child", family.weights["chat"])
    pair = (known(catalog, tmp_path / "child"), known(catalog, family.base))

    class Touches:
        def start(self, what, total_bytes):
            pass

        def advance(self, n_bytes):
            os.utime(tmp_path / "child" / "model.safetensors", ns=(1, 1))

    with pytest.raises(FileChanged, match="child"):
        measure(catalog, *pair, progress=Touches())
    assert not stored(catalog, "pair", pair)
    with pytest.raises(FileChanged, match="child"):
        measure(catalog, *pair)
    (tmp_path / "child" / "model.safetensors").unlink()
    (tmp_path / "child" / "config.json").unlink()
    (tmp_path / "child" / "tokenizer.json").unlink()
    (tmp_path / "child").rmdir()
    with pytest.raises(BadAddress):
        measure(catalog, *pair)


def test_an_interrupt_stores_nothing_and_stops_at_once(shelf):
    pair = (shelf.find("chat"), shelf.find("base"))
    seen = []

    class Interrupts:
        def start(self, what, total_bytes):
            pass

        def advance(self, n_bytes):
            seen.append(n_bytes)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        measure(shelf, *pair, jobs=1, progress=Interrupts())
    assert len(seen) < 10
    assert not stored(shelf, "pair", pair)
