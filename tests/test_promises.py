"""What is promised to users of the command, tried as they would: bad files, sealed SQL, two at once, same bytes."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from cli.main import run
from registry.catalog import Catalog

REFUSED = (
    "attach '/etc/passwd'",
    "copy (select 1) to '{folder}/out.csv'",
    "install httpfs",
    "select * from read_text('/etc/passwd')",
    "delete from models",
)


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, _empty_catalog: bytes) -> Path:
    """A folder with a catalog of its own."""
    (tmp_path / ".reg").mkdir()
    (tmp_path / ".reg" / "catalog.duckdb").write_bytes(_empty_catalog)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("REG_CATALOG", raising=False)
    return tmp_path


def checkpoint(folder: Path, seed: int = 0, base: str = "") -> Path:
    """A small checkpoint whose weights follow from ``seed``; a child of ``base`` is near the model of seed 0."""
    folder.mkdir(parents=True)
    random = torch.Generator().manual_seed(0 if base else seed)
    change = torch.Generator().manual_seed(seed)
    tensors = {}
    for name, shape in (
        ("model.embed_tokens.weight", (32, 8)),
        ("model.layers.0.mlp.up_proj.weight", (16, 8)),
    ):
        weights = torch.randn(shape, generator=random)
        tensors[name] = weights + 0.001 * torch.randn(shape, generator=change) if base else weights
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    (folder / "config.json").write_text('{"model_type": "llama"}', encoding="utf-8")
    line = f"base_model: {base}\n" if base else ""
    (folder / "README.md").write_text(f"---\nlicense: mit\n{line}---\n", encoding="utf-8")
    return folder


def test_bad_files_cost_nothing_but_themselves(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    models = project / "models"
    for seed in range(3):
        checkpoint(models / f"good-{seed}", seed)
    corrupted = checkpoint(models / "corrupted") / "model.safetensors"
    data = bytearray(corrupted.read_bytes())
    data[8:12] = b"\xff\xff\xff\xff"
    corrupted.write_bytes(data)
    truncated = checkpoint(models / "truncated") / "model.safetensors"
    truncated.write_bytes(truncated.read_bytes()[:-100])
    escaping = models / "escaping"
    escaping.mkdir()
    index = {"metadata": {}, "weight_map": {"model.norm.weight": "../../etc/passwd"}}
    (escaping / "model.safetensors.index.json").write_text(json.dumps(index), encoding="utf-8")
    (models / "pickled").mkdir()
    (models / "pickled" / "pytorch_model.bin").write_bytes(
        b"\x80\x04cposix\nsystem\n(S'touch hacked'\ntR."
    )
    (models / "empty").mkdir()

    assert run(["--json", "scan", str(models)]) == 0
    answer = capsys.readouterr()
    report = json.loads(answer.out)
    assert sorted(model["name"] for model in report["models"]) == ["good-0", "good-1", "good-2"]
    errors = {Path(p["address"]).name: p["error"] for p in report["problems"]}
    assert errors == {
        "corrupted": "BadHeader", "truncated": "TruncatedFile", "escaping": "PathEscapes",
        "pickled": "UnsafeFormat", "empty": "EmptyCheckpoint",
    }  # fmt: skip
    assert not (project / "hacked").exists()

    assert run(["scan", str(models)]) == 0
    assert "5 problems" in "".join(capsys.readouterr())


@pytest.mark.parametrize("statement", REFUSED)
def test_sql_is_sealed(project: Path, statement: str, capsys: pytest.CaptureFixture[str]) -> None:
    checkpoint(project / "models" / "one")
    assert run(["scan", "models"]) == 0
    catalog = project / ".reg" / "catalog.duckdb"
    before = catalog.read_bytes()
    capsys.readouterr()
    assert run(["sql", statement.format(folder=project)]) == 1
    said = capsys.readouterr()
    assert "error: refused" in said.err
    assert not said.out
    assert catalog.read_bytes() == before
    assert not (project / "out.csv").exists()


def test_two_scans_at_once_lose_nothing(project: Path) -> None:
    for seed in range(40):
        checkpoint(project / ("left" if seed % 2 else "right") / f"model-{seed}", seed)
    command = [sys.executable, "-m", "cli", "--quiet", "scan"]
    scans = [
        subprocess.Popen([*command, side], stdout=subprocess.DEVNULL)
        for side in ("left", "right", "left")
    ]
    assert [scan.wait(timeout=120) for scan in scans] == [0, 0, 0]
    rows = Catalog(project / ".reg" / "catalog.duckdb").rows(
        "select count(distinct id) as n, count(*) as m, count(distinct addresses) as k from models"
    )
    assert rows == [{"n": 40, "m": 40, "k": 40}]


def test_the_same_recipe_gives_the_same_bytes(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    checkpoint(project / "models" / "base")
    for seed in (1, 2):
        checkpoint(project / "models" / f"child-{seed}", seed, base="org/base")
    assert run(["scan", "models"]) == 0
    for name in ("first", "second"):
        assert run(["merge", "--method", "dare_ties", "child-1", "child-2", "-o", name]) == 0
    for file in (project / "first").iterdir():
        assert file.read_bytes() == (project / "second" / file.name).read_bytes(), file.name
    capsys.readouterr()
    assert run(["--json", "reproduce", "first", "-o", "third"]) == 0
    assert json.loads(capsys.readouterr().out)["ok"]

    file = project / "first" / "model.safetensors"
    data = bytearray(file.read_bytes())
    data[-3] ^= 4
    file.write_bytes(data)
    assert run(["--json", "verify", "first"]) == 3
    found = json.loads(capsys.readouterr().out)["differences"]
    assert any(
        d["what"] == "tensor" and d["where"] == "model.layers.0.mlp.up_proj.weight" for d in found
    )


def test_help_and_ls_load_neither_torch_nor_what_only_writers_need(project: Path) -> None:
    checkpoint(project / "models" / "one")
    assert run(["scan", "models"]) == 0
    for words in (["--help"], ["ls"], ["show", "one"], ["sql", "select 1"]):
        code = (
            "import sys; from cli.main import run; code = run(sys.argv[1:]);"
            "heavy = {'torch', 'sqlmodel', 'transformers'} & set(sys.modules); assert not heavy, heavy"
        )
        done = subprocess.run(
            [sys.executable, "-c", code, *words], check=False, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
