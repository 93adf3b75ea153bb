"""What the disk's tries work on: a family of small models, a catalog that knows it, and what a catalog and a folder hold.

It is made once in the lab's folder; every try begins with `begin`, which puts the models and the catalog back.
"""

import hashlib
import json
import shutil
import stat
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file
from torture.lab import Lab

from registry.catalog import Catalog

WIDTH, LAYERS = 96, 3
NAMES = ("base", "chat", "math", "sharded")
CONFIG = {
    "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": WIDTH, "vocab_size": 2 * WIDTH,
    "num_hidden_layers": LAYERS, "tie_word_embeddings": False,
}  # fmt: skip
SAYS_BASE = "---\nlicense: apache-2.0\nbase_model: base\nbase_model_relation: finetune\n---\n"

ROWS = {
    "model": "id, kind, status, signature, n_params, n_tensors",
    "tensor": "model_id, name, digest, shape",
    "address": "uri, model_id, name, config, tokenizer, license",
    "file": "uri, path, size_bytes, format",
    "claim": "uri, predicate, object",
    "edge": "child, parent, relation, role, status, coefficient",
    "evidence": "child, parent, relation, status, method, statistic, value",
    "pair": "child, base, n_aligned, read_bytes",
    "delta": "child, base, tensor, status, sum_sq",
    "sketch": "model_id, spec",
    "score": "model_id, task, metric, value, origin",
    "recipe": "digest, canonical",
    "run": "recipe, output, model_id where status = 'COMPLETE'",
    "problem": "uri, file, error",
}
"""Table → the columns by which a row is known again; times, inodes and ids of runs are left out."""


def begin(lab: Lab) -> Path:
    """Put everything back; the folder of the models."""
    if not (lab.folder / "pristine").exists():
        _make(lab)
    for path in lab.folder.iterdir():
        if path.name not in ("pristine", "wanted", "models"):
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    for name in ("home", "out"):
        (lab.folder / name).mkdir()
    if _stamp(lab) != json.loads((lab.folder / "pristine" / "stamp.json").read_text()):
        _scan(lab)  # what is put back is another file, as the catalog sees it
    for file in ("listing.jsonl", "results.json"):
        shutil.copy2(lab.folder / "pristine" / file, lab.folder)
    shutil.copy2(lab.folder / "pristine" / "known.duckdb", lab.folder / "catalog.duckdb")
    return lab.folder / "models"


def _make(lab: Lab) -> None:
    """Make the family, and a catalog that has scanned, measured and scored it."""
    place = lab.folder / "pristine"
    place.mkdir(parents=True)
    weights = _weights(0, 1.0)
    for seed, name in enumerate(NAMES):
        moved = _weights(seed, 0.01) if seed else {}
        tensors = {k: w + moved[k] if moved else w for k, w in weights.items()}
        card = "---\nlicense: apache-2.0\n---\n" if name == "base" else SAYS_BASE
        write_model(place / name, tensors, card=card, shards=2 if name == "sharded" else 1)
    listed = [
        {"id": f"org/m{i}", "tags": ["base_model:org/m0"], "downloads": i} for i in range(400)
    ]
    (place / "listing.jsonl").write_text("".join(json.dumps(row) + "\n" for row in listed))
    (place / "results.json").write_text("{}")
    _scan(lab)


def _scan(lab: Lab) -> None:
    """Put the models back, and scan and score them into a new catalog."""
    place = lab.folder / "pristine"
    shutil.rmtree(lab.folder / "models", ignore_errors=True)
    for name in NAMES:
        shutil.copytree(place / name, lab.folder / "models" / name)
    known = lab.folder / "known.duckdb"
    for words in (
        ("scan", lab.folder / "models"),
        ("score", "add", "chat", "--task", "sums", "--metric", "acc", "--value", "0.5"),
    ):
        ended = lab.reg(*words, env={"REG_CATALOG": str(known)})
        assert ended.code == 0, ended
    known.replace(place / "known.duckdb")
    (place / "stamp.json").write_text(json.dumps(_stamp(lab)))


def _stamp(lab: Lab) -> dict[str, list[Any]]:
    """The files of the models: when they were written, which they are and what they hold."""
    models = lab.folder / "models"
    found: dict[str, list[Any]] = {}
    for path in sorted(models.rglob("*")):
        status, name = path.lstat(), path.relative_to(models).as_posix()
        found[name] = [stat.S_IFMT(status.st_mode)]
        if path.is_file():
            digest = hashlib.sha256(path.read_bytes()).hexdigest()
            found[name] = [status.st_mtime_ns, status.st_ino, digest]
    return found


def _weights(seed: int, scale: float) -> dict[str, Any]:
    """Gaussian weights of a decoder, float32."""
    rng = np.random.default_rng(seed)
    shapes = {"model.embed_tokens.weight": (2 * WIDTH, WIDTH), "lm_head.weight": (2 * WIDTH, WIDTH)}
    for layer in range(LAYERS):
        for name in ("q_proj", "k_proj", "v_proj", "o_proj"):
            shapes[f"model.layers.{layer}.self_attn.{name}.weight"] = (WIDTH, WIDTH)
    return {name: scale * rng.standard_normal(shape, np.float32) for name, shape in shapes.items()}


def write_model(
    folder: Path, tensors: dict[str, Any], *, card: str = "", shards: int = 1, **config: Any
) -> Path:
    """Write a checkpoint."""
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(CONFIG | config))
    if card:
        (folder / "README.md").write_text(card)
    if shards == 1:
        save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
        return folder
    where = {}
    for i in range(shards):
        file = f"model-{i + 1:05}-of-{shards:05}.safetensors"
        part = dict(list(tensors.items())[i::shards])
        save_file(part, folder / file, metadata={"format": "pt"})
        where |= dict.fromkeys(part, file)
    index = json.dumps({"metadata": {}, "weight_map": where})
    (folder / "model.safetensors.index.json").write_text(index)
    return folder


def rows(lab: Lab, catalog: Path) -> Counter[str]:
    """All rows of a catalog; none where there is none. A catalog that cannot be opened counts against it."""
    if not catalog.exists() or not catalog.stat().st_size:
        return Counter()

    def held() -> list[str]:
        with Catalog(catalog, wait_seconds=5).read() as reader:
            return [
                f"{table} {row}"
                for table, columns in ROWS.items()
                for row in reader.rows(_select(table, columns))
            ]

    return Counter(lab.ask(held) or ())


def _select(table: str, columns: str) -> str:
    """The query for the rows of a table."""
    what, where, condition = columns.partition(" where ")
    return f"select {what} from store.{table}{where}{condition}"


def keeps(lab: Lab, before: Counter[str], catalog: Path, ended: object) -> None:
    """Count the rows that were there before and are gone."""
    gone = before - rows(lab, catalog)
    if gone:
        lab.found.lost_rows.append(f"{sum(gone.values())} rows, {next(iter(gone))}: {ended}")


def tree(folder: Path) -> dict[str, bytes] | None:
    """Every file of a folder, by path; None where there is none."""
    if not folder.exists():
        return None
    if folder.is_file():
        return {"": folder.read_bytes()}
    files = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def no_half(lab: Lab, output: Path, whole: dict[str, bytes] | None, ended: object) -> None:
    """Count an output that is there and not whole, and anything beside it that looks like a model."""
    found = tree(output)
    if found is not None and found != whole and (found or output.is_file()):
        lab.found.half_models.append(f"{output.name} holds {sorted(found)}: {ended}")
    for path in output.parent.rglob("*.safetensors"):
        inside = path.relative_to(output.parent).parts[0]
        if inside != output.name and not inside.endswith(".partial"):
            lab.found.half_models.append(f"{path} was left: {ended}")
