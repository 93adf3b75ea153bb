"""Journals: a run that was stopped goes on, to the same bytes; what a journal says is believed when the bytes agree."""

import json
import os

import pytest
import torch

from engine.journal import FORMAT, JOURNAL, begun, folder_of
from engine.run import run_plan
from registry.errors import (
    CatalogLocked,
    Interrupted,
    NonFinite,
    NotEnoughDisk,
    NothingToResume,
    OutputExists,
    RunFailed,
)

SHARD_BYTES = 6000
METADATA = {"format": "pt"}


@pytest.fixture
def models(make_parent):
    """Three parents of twelve tensors, one of them empty and one of whole numbers."""

    def tensors(seed):
        generator = torch.Generator().manual_seed(seed)
        made = {f"t{i:02}.weight": torch.randn(20, 17, generator=generator) for i in range(10)}
        return made | {"u.empty": torch.zeros(0, 3), "v.ids": torch.arange(9)}

    return [make_parent(name, tensors(i)) for i, name in enumerate(("base", "one", "two"))]


@pytest.fixture
def plan(models, planned):
    return planned("dare_ties", models[1:], base=models[0], seed=3)


class Stops:
    """Progress that is interrupted, or fails, after some units; counts what it is told."""

    def __init__(self, after=10**9, error=KeyboardInterrupt):
        self.left, self.error, self.totals = after, error, {}

    def start(self, what, total_bytes):
        self.what = what
        self.totals[what] = total_bytes

    def advance(self, n_bytes):
        if self.what == "merge":
            self.left -= 1
            if self.left < 0:
                raise self.error


def carry_out(plan, output, progress=None, *, insist=False, run="r", shard_bytes=SHARD_BYTES):
    """Run a plan into an output as a merge does; return the outcome."""
    settings = {"metadata": METADATA, "shard_bytes": shard_bytes}
    with begun(output, plan, run=run, insist=insist, **settings) as journal:
        outcome = run_plan(
            plan, journal.folder, jobs=1, chunk=100, journal=journal,
            progress=progress or Stops(), **settings,
        )  # fmt: skip
        journal.take_name(output)
    return outcome


def stop(plan, output, after=20, error=KeyboardInterrupt):
    """Stop a run after some units; return its folder."""
    kind = error if isinstance(error, type) else type(error)
    with pytest.raises(kind):
        carry_out(plan, output, Stops(after, error))
    return folder_of(output, plan, SHARD_BYTES)


def written(folder):
    return {file.name: file.read_bytes() for file in sorted(folder.iterdir())}


def whole(plan, tmp_path):
    outcome = carry_out(plan, tmp_path / "whole")
    return outcome, written(tmp_path / "whole")


def lines_of(folder):
    return (folder / JOURNAL).read_text(encoding="utf-8").splitlines()


def same(outcome, expected):
    return (outcome.change, outcome.digests) == (expected.change, expected.digests)


@pytest.mark.parametrize("method", ["linear", "ties", "dare_ties", "widen", "expo"])
def test_whenever_a_run_is_stopped_it_ends_with_the_same_bytes(method, models, planned, tmp_path):
    base, *others = models
    plan = planned(method, others[:1] if method == "expo" else others, base=base)
    expected, files = whole(plan, tmp_path)
    output = tmp_path / "out"
    for after in (5, 3, 2):
        with pytest.raises(KeyboardInterrupt):
            carry_out(plan, output, Stops(after))
    outcome = carry_out(plan, output)
    assert same(outcome, expected)
    assert written(output) == files
    assert sorted(p.name for p in tmp_path.iterdir()) == ["out", "parents", "whole"]


def test_what_is_finished_is_not_computed_again(plan, tmp_path):
    stop(plan, tmp_path / "out")
    progress = Stops()
    outcome = carry_out(plan, tmp_path / "out", progress, insist=True)
    step = plan.steps[0]
    assert outcome.n_resumed == 5
    assert progress.totals == {
        "check": 5 * step.write_bytes,
        "merge": plan.read_bytes + plan.write_bytes - 5 * (step.read_bytes + step.write_bytes),
    }


def test_the_lines_are_those_of_the_format(plan, tmp_path):
    with pytest.raises(Interrupted, match="5 of 12 tensors are finished and kept"):
        carry_out(plan, tmp_path / "out", Stops(20), run="first")
    head, run, *tensors = map(json.loads, lines_of(folder_of(tmp_path / "out", plan, SHARD_BYTES)))
    assert head.keys() == {"journal", "plan"}
    assert head["journal"] == FORMAT
    assert run == {"run": "first", "process": os.getpid()}
    assert [line["tensor"] for line in tensors] == [step.name for step in plan.steps[:5]]


def test_earlier_runs_are_known(plan, tmp_path):
    for name in ("a", "b"):
        with pytest.raises(Interrupted):
            carry_out(plan, tmp_path / "out", Stops(8), run=name)
    with begun(
        tmp_path / "out", plan, metadata=METADATA, shard_bytes=SHARD_BYTES, run="c"
    ) as journal:
        assert journal.runs == ("a", "b")


@pytest.mark.parametrize("cut", [1, 2, 40, 200, 400, 900, 10**6])
def test_a_torn_journal_says_what_it_still_says(cut, plan, tmp_path):
    expected, files = whole(plan, tmp_path)
    journal = stop(plan, tmp_path / "out") / JOURNAL
    journal.write_bytes(journal.read_bytes()[:-cut])
    assert same(carry_out(plan, tmp_path / "out"), expected)
    assert written(tmp_path / "out") == files


def changed(line, **values):
    return json.dumps({**json.loads(line), **values})


@pytest.mark.parametrize(
    "hostile",
    [
        lambda line: changed(line, tensor="nobody.weight"),
        lambda line: changed(line, tensor="u.empty"),
        lambda line: changed(line, tensor=["t00.weight"]),
        lambda line: changed(line, digest="0" * 64),
        lambda line: changed(line, digest="0" * 63),
        lambda line: changed(line, digest=None),
        lambda line: changed(line, numbers={}),
        lambda line: changed(line, numbers={**json.loads(line)["numbers"], "n": 1.5}),
        lambda line: changed(line, numbers={**json.loads(line)["numbers"], "n": "1"}),
        lambda line: changed(line, numbers={**json.loads(line)["numbers"], "n": True}),
        lambda line: changed(line, numbers={**json.loads(line)["numbers"], "more": 1}),
        lambda line: changed(line, numbers=[1, 2]),
        lambda line: line[: len(line) // 2],
        lambda _: "[]",
        lambda _: "5",
        lambda _: '{"tensor": "t00.weight", "tensor": "t00.weight"}',
        lambda _: "[" * 100_000,
        lambda _: '"\\ud800"',
        lambda _: "",
    ],
)
def test_a_line_that_is_none_is_passed_over(hostile, plan, tmp_path):
    expected, files = whole(plan, tmp_path)
    folder = stop(plan, tmp_path / "out")
    *before, last = lines_of(folder)
    (folder / JOURNAL).write_text("\n".join([*before, hostile(last)]) + "\n", encoding="utf-8")
    outcome = carry_out(plan, tmp_path / "out")
    assert outcome.n_resumed == 4
    assert same(outcome, expected)
    assert written(tmp_path / "out") == files


def test_bytes_that_are_no_text_are_passed_over(plan, tmp_path):
    expected, _ = whole(plan, tmp_path)
    folder = stop(plan, tmp_path / "out")
    (folder / JOURNAL).write_bytes((folder / JOURNAL).read_bytes() + b"\xff\x00\n")
    assert same(carry_out(plan, tmp_path / "out", insist=True), expected)


def test_a_tensor_whose_bytes_changed_is_computed_again(plan, tmp_path):
    expected, files = whole(plan, tmp_path)
    folder = stop(plan, tmp_path / "out")
    shard = min(folder.glob("*.safetensors"))
    data = bytearray(shard.read_bytes())
    data[-700] ^= 1
    shard.write_bytes(data)
    outcome = carry_out(plan, tmp_path / "out")
    assert outcome.n_resumed == 4
    assert same(outcome, expected)
    assert written(tmp_path / "out") == files


def break_header(shard):
    data = bytearray(shard.read_bytes())
    data[20] ^= 1
    shard.write_bytes(data)


def make_link(shard):
    shard.rename(shard.with_name("elsewhere"))
    shard.symlink_to("elsewhere")


@pytest.mark.parametrize(
    "spoil",
    [
        break_header,
        make_link,
        lambda shard: shard.unlink(),
        lambda shard: os.truncate(shard, 100),
        lambda shard: shard.rename(shard.with_name("model-9.safetensors")),
        lambda shard: shard.with_name("more.safetensors").write_bytes(b"x"),
        lambda shard: (shard.unlink(), shard.mkdir()),
    ],
)
def test_shards_that_are_not_the_plans_are_begun_anew(spoil, plan, tmp_path):
    expected, files = whole(plan, tmp_path)
    folder = stop(plan, tmp_path / "out")
    spoil(min(folder.glob("*.safetensors")))
    outcome = carry_out(plan, tmp_path / "out")
    assert outcome.n_resumed == 0
    assert same(outcome, expected)
    assert written(tmp_path / "out") == files


def test_what_does_not_belong_there_is_cleared_away(plan, tmp_path):
    _, files = whole(plan, tmp_path)
    folder = stop(plan, tmp_path / "out")
    (folder / "inner").mkdir()
    (folder / "inner" / "file").write_text("x", encoding="utf-8")
    (folder / f"{JOURNAL}.new").write_text("x", encoding="utf-8")
    (folder / "link").symlink_to(tmp_path)
    assert carry_out(plan, tmp_path / "out", insist=True).n_resumed == 5
    assert written(tmp_path / "out") == files


def of_another_plan(folder):
    head, *rest = lines_of(folder)
    lines = [json.dumps({**json.loads(head), "plan": "0" * 64}), *rest]
    (folder / JOURNAL).write_text("\n".join(lines) + "\n", encoding="utf-8")


def through_a_link(folder):
    (folder / JOURNAL).rename(folder.parent / "elsewhere")
    (folder / JOURNAL).symlink_to(folder.parent / "elsewhere")


@pytest.mark.parametrize(
    "spoil",
    [
        of_another_plan,
        through_a_link,
        lambda folder: (folder / JOURNAL).unlink(),
        lambda folder: (folder / JOURNAL).write_bytes(b""),
    ],
)
def test_a_journal_of_another_plan_is_none(spoil, plan, tmp_path):
    _, files = whole(plan, tmp_path)
    folder = stop(plan, tmp_path / "out")
    spoil(folder)
    before = written(folder)
    with pytest.raises(NothingToResume, match=r"no unfinished run of this plan into .*out"):
        carry_out(plan, tmp_path / "out", insist=True)
    assert written(folder) == before
    assert carry_out(plan, tmp_path / "out").n_resumed == 0
    assert written(tmp_path / "out") == files


@pytest.mark.parametrize("name", ["model-00001-of-00001.safetensors", "config.json"])
def test_parents_whose_files_were_touched_make_another_plan(name, plan, parent_at, tmp_path):
    stop(plan, tmp_path / "out")
    root = plan.models[0].checkpoint.root
    os.utime(root / name, ns=(1, 1))
    now = type(plan)(**{**vars(plan), "models": (parent_at(root), *plan.models[1:])})
    with pytest.raises(NothingToResume):
        carry_out(now, tmp_path / "out", insist=True)


def test_without_a_folder_there_is_nothing_to_resume(plan, tmp_path):
    with pytest.raises(NothingToResume) as caught:
        carry_out(plan, tmp_path / "out", insist=True)
    assert "--resume" in caught.value.hint
    assert [p.name for p in tmp_path.iterdir()] == ["parents"]


def test_every_plan_size_of_shards_and_output_has_a_folder_of_its_own(models, planned, tmp_path):
    base, one, two = models
    plans = [
        planned("linear", [one, two]), planned("linear", [two, one]), planned("slerp", [one, two]),
        planned("linear", [one, base]), planned("linear", [one, two], dtype="F16"),
    ]  # fmt: skip
    folders = {folder_of(tmp_path / name, p, s) for p in plans for s in (1, 2) for name in "ab"}
    assert len(folders) == 20
    assert folder_of(tmp_path / "a", planned("linear", [one, two]), 1) in folders


@pytest.mark.parametrize(
    ("error", "hint"),
    [(NotEnoughDisk("full", hint="x"), "same command again"), (CatalogLocked("held", hint="y"), "y")],
)  # fmt: skip
def test_what_may_pass_leaves_what_is_finished(error, hint, plan, tmp_path):
    folder = stop(plan, tmp_path / "out", error=error)
    assert hint in error.hint
    assert folder.is_dir()
    assert carry_out(plan, tmp_path / "out", insist=True).n_resumed == 5


@pytest.mark.parametrize(
    "error", [NonFinite("x"), RunFailed("x"), ValueError("x"), OSError(5, "x")]
)
def test_any_other_error_leaves_nothing_even_of_a_run_that_was_resumed(error, plan, tmp_path):
    stop(plan, tmp_path / "out")
    kind = RunFailed if isinstance(error, OSError) else type(error)
    with pytest.raises(kind):
        carry_out(plan, tmp_path / "out", Stops(3, error))
    assert [p.name for p in tmp_path.iterdir()] == ["parents"]


def test_where_no_tensor_is_finished_nothing_is_kept(plan, tmp_path):
    with pytest.raises(KeyboardInterrupt) as caught:
        carry_out(plan, tmp_path / "out", Stops(2))
    assert caught.type is KeyboardInterrupt
    assert [p.name for p in tmp_path.iterdir()] == ["parents"]


def hold(plan, output, *, insist=False):
    settings = {"metadata": METADATA, "shard_bytes": SHARD_BYTES, "run": "r"}
    return begun(output, plan, insist=insist, **settings)


@pytest.mark.parametrize("insist", [False, True])
def test_two_living_processes_never_share_a_folder(insist, plan, tmp_path):
    with hold(plan, tmp_path / "out") as journal:
        before = written(journal.folder)
        with (
            pytest.raises(OutputExists, match=rf"process {os.getpid()} is making .*out"),
            hold(plan, tmp_path / "out", insist=insist),
        ):
            pass
        assert written(journal.folder) == before


def test_a_file_system_without_locks_will_do(plan, tmp_path, monkeypatch):
    def unsupported(handle, operation):
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr("fcntl.flock", unsupported)
    stop(plan, tmp_path / "out")
    assert carry_out(plan, tmp_path / "out").n_resumed == 5


def test_an_output_that_appeared_meanwhile_stays(plan, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine").write_text("mine", encoding="utf-8")
    with pytest.raises(OutputExists):
        carry_out(plan, tmp_path / "out")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["out", "parents"]


def test_a_line_that_does_not_fit_leaves_the_journal_as_it_was(plan, tmp_path, monkeypatch):
    real, calls = os.write, []

    def full(handle, data):
        calls.append(data)
        if len(calls) < 3:
            return real(handle, data)
        if len(calls) == 3:
            return real(handle, data[:10])
        raise OSError(28, os.strerror(28))

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", full)
        folder = stop(plan, tmp_path / "out", after=10**6, error=NotEnoughDisk)
    assert [json.loads(line).get("tensor") for line in lines_of(folder)[2:]] == ["t00.weight"]
    assert carry_out(plan, tmp_path / "out", insist=True).n_resumed == 1
