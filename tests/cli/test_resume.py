"""Merges that are stopped: killed twenty times, interrupted from the keyboard, out of disk; each ends as if nothing had been."""

import json
import os
import random
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from engine.verify import verify
from registry.catalog import Catalog
from registry.process import is_alive
from registry.scan import scan

ROOT = Path(__file__).parent.parent.parent
N_TENSORS, SHAPE = 48, (512, 600)
WORDS = (
    "merge", "--method", "dare_ties", "--base", "base", "chat", "math", "--seed", "7",
    "--jobs", "1", "--memory", "32MB", "--shard-size", "10MB", "-o",
)  # fmt: skip
IN_BUFFERS = 8
"""Tensors whose last bytes may be on their way past the page cache, or edges that wait, when a run is killed."""

REG = (
    "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); "
    "from cli.main import main; main()"
)

MANY = """
import json, os, signal, sys
import cli.commands.merge, cli.human, engine.direct, engine.merge, pytz
from cli.main import main
from engine.methods import all_methods
from huggingface_hub import ModelCard
all_methods()
engine.direct.LEAST_FILE_BYTES = 1
for line in sys.stdin:
    process = os.fork()
    if not process:
        os.dup2(2, 1)
        sys.argv = ["reg", *json.loads(line)]
        main()
    print(process, flush=True)
    print(os.waitpid(process, 0)[1], flush=True)
"""
"""`reg` in process after process, without the seconds that each would need to load torch and the methods.

With memory for the buffers, also short files are written past the page cache.
"""


@pytest.fixture(scope="module")
def shop(tmp_path_factory):
    """A folder with a base and two children of 29 MB each, a catalog that knows them, and an uninterrupted merge."""
    folder = tmp_path_factory.mktemp("shop")
    generator = torch.Generator().manual_seed(0)
    base = {
        f"model.layers.{i}.mlp.up_proj.weight": torch.randn(SHAPE, generator=generator)
        for i in range(N_TENSORS)
    }
    for name in ("base", "chat", "math"):
        (folder / "models" / name).mkdir(parents=True)
        child = {
            key: t + (name != "base") * 0.01 * torch.randn(SHAPE, generator=generator)
            for key, t in base.items()
        }
        save_file(
            {key: t.bfloat16() for key, t in child.items()},
            folder / "models" / name / "model.safetensors",
        )
        descent = "" if name == "base" else "base_model: base\n"
        card = f"---\nlicense: mit\n{descent}---\n"
        (folder / "models" / name / "README.md").write_text(card, encoding="utf-8")
        (folder / "models" / name / "config.json").write_text("{}", encoding="utf-8")
    (folder / ".reg").mkdir()
    scan(Catalog(folder / ".reg" / "catalog.duckdb"), [str(folder / "models")])
    with begun(folder, *WORDS, "whole/merged") as process:
        assert process.wait() == 0, process.stderr.read()
    return folder


def begun(folder, *words):
    return started(folder, REG, *words)


def started(folder, code, *words):
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", code, *words]
    return subprocess.Popen(
        command, cwd=folder, env=environment, text=True,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip


class Many:
    """Runs `reg` in one process after the other; each looks to `wait_for` like a `Popen`."""

    def __init__(self, folder):
        self.parent = started(folder, MANY)
        self.pid = 0

    def begin(self, *words):
        self.parent.stdin.write(json.dumps(words) + "\n")
        self.parent.stdin.flush()
        self.pid = int(self.parent.stdout.readline())

    def poll(self):
        return None if is_alive(self.pid) else 1

    def communicate(self):
        return self.parent.communicate()

    def kill(self):
        os.kill(self.pid, signal.SIGKILL)
        return int(self.parent.stdout.readline())


def journal_of(output):
    """The lines of the journal of an output that is being made."""
    for path in output.parent.glob(".*.partial/journal.jsonl"):
        return path.read_text(encoding="utf-8").split("\n")[:-1]
    return []


def wait_for(process, output, n_tensors):
    """Wait until a process works on an output and so many tensors more are finished; return how many there are."""
    goal = None
    while process.poll() is None:
        lines = journal_of(output)
        n = sum('"tensor"' in line for line in lines)
        if any(f'"process": {process.pid}}}' in line for line in lines):
            goal = min(n + n_tensors, N_TENSORS - 1) if goal is None else goal
            if n >= goal:
                return n
        time.sleep(0.002)
    raise AssertionError(process.communicate())


def files(folder):
    return {p.relative_to(folder): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def runs_into(shop, output):
    catalog = Catalog(shop / ".reg" / "catalog.duckdb")
    rows = catalog.rows(
        "select * from store.run where output = ? order by started_at", [str(output)]
    )
    assert verify(catalog, str(output)).ok
    return [row["status"] for row in rows], rows[-1]


@pytest.mark.parametrize(("memory", "n_kills"), [("32MB", 20), ("256MB", 10)])
def test_a_merge_that_is_killed_again_and_again_ends_with_the_same_bytes(memory, n_kills, shop):
    moments, output = random.Random(n_kills), shop / memory / "merged"
    words = [memory if word == "32MB" else word for word in WORDS]
    many = Many(shop)
    with many.parent:
        for i in range(n_kills):
            insist = ["--resume"] if i and moments.random() < 0.5 else []
            many.begin(*words, f"{memory}/merged", *insist)
            wait_for(many, output, moments.choice((0, 0, 1, 2, 4)))
            time.sleep(moments.uniform(0, 0.01))
            assert many.kill() == signal.SIGKILL
            (left,) = output.parent.iterdir()
            assert left.name.startswith(".merged.")
    n = sum('"tensor"' in line for line in journal_of(output))
    with begun(shop, *words, f"{memory}/merged", "--resume", "--json") as process:
        said, errors = process.communicate()
    assert process.returncode == 0, errors
    (note,) = (note for note in json.loads(said)["notes"] if "finished by a run" in note)
    found = int(note.partition(" ")[0])
    assert found == n if memory == "32MB" else n - IN_BUFFERS <= found <= n
    assert note == f"{found} of {N_TENSORS} tensors were finished by a run that had been stopped"
    assert files(output) == files(shop / "whole" / "merged")
    assert [p.name for p in output.parent.iterdir()] == ["merged"]
    assert [p.name for p in (shop / ".reg").iterdir()] == ["catalog.duckdb"]
    statuses, last = runs_into(shop, output)
    assert statuses[-1] == "COMPLETE"
    assert set(statuses[:-1]) == {"ABORTED"}
    assert last["model_id"] == json.loads(said)["digest"]


def test_ctrl_c_says_how_to_go_on_and_that_goes_on(shop):
    output = shop / "interrupted" / "merged"
    with begun(shop, *WORDS, "interrupted/merged") as process:
        n = wait_for(process, output, 3)
        process.send_signal(signal.SIGINT)
        said, errors = process.communicate()
    assert process.returncode == 130
    assert not said
    interrupted, note, hint = errors.split("\n")[1:-1]
    assert interrupted == "interrupted"
    found = int(note.removeprefix("note: ").partition(" ")[0])
    assert n <= found < N_TENSORS
    assert note == f"note: {found} of {N_TENSORS} tensors are finished and kept"
    assert hint == f"hint: {shlex.join(['reg', *WORDS, 'interrupted/merged', '--resume'])}"
    with begun(shop, *shlex.split(hint)[2:]) as process:
        assert process.wait() == 0
    assert files(output) == files(shop / "whole" / "merged")
    assert [p.name for p in output.parent.iterdir()] == ["merged"]
    assert runs_into(shop, output)[0] == ["ABORTED", "COMPLETE"]


def test_nothing_to_resume_is_said_and_nothing_is_left(known):
    words = ("merge", "--method", "linear", "chat", "math", "-o", "nothing/merged", "--resume")
    result = known.run(*words, "--json", code=1)
    assert json.loads(result.stderr)["error"] == "NothingToResume"
    assert "leave out --resume" in json.loads(result.stderr)["hint"]
    assert not list((known.folder / "nothing").iterdir())
    assert known.json("sql", "select count(*) as n from runs where status <> 'COMPLETE'") == [
        {"n": 0}
    ]
