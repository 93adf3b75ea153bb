"""Every method, with every choice it has: the same bytes for any threads, slices, shards and ways to the disk."""

import pytest
import torch

from engine import direct
from engine.methods import all_methods
from engine.ops import BLOCK
from engine.run import run_plan
from registry.checkpoint import read_checkpoint
from registry.fingerprint import digest_model, digest_tensors

METHODS = all_methods()
SHAPES = {
    "model.embed_tokens.weight": ((150, 9), torch.bfloat16),
    "model.layers.0.mlp.up_proj.weight": ((140, 33), torch.bfloat16),
    "model.layers.0.self_attn.q_proj.weight": ((17, 19), torch.float32),
    "model.layers.0.conv.weight": ((5, 4, 3), torch.float16),
    "model.norm.weight": ((BLOCK + 777,), torch.bfloat16),
    "scale": ((), torch.float32),
}
"""The vector is longer than a block, so that tensors that are surveyed in blocks are cut too."""

WAYS = [  # threads, entries of a slice, bytes of a shard, memory: with much of it past the page cache
    (1, None, 1 << 30, 1 << 24), (2, BLOCK, 1 << 30, 1 << 28), (1, BLOCK, 1, 1 << 24), (2, 2000, 20_000, 1 << 28),
]  # fmt: skip


@pytest.fixture(scope="module", autouse=True)
def all_is_worth_it():
    """Let the shortest files and pieces go past the page cache too."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(direct, "LEAST_FILE_BYTES", 1)
        patch.setattr(direct, "LEAST_BYTES", direct.BLOCK)
        yield


def choices():
    """Each method by its defaults, and with each other value of its choices and flags."""
    for name, method in METHODS.items():
        yield pytest.param(name, {}, id=name)
        for each in method.parameters:
            values = each.choices or ((False, True) if each.kind == "flag" else ())
            for value in values:
                if value != each.default:
                    yield pytest.param(
                        name, {each.keyword: value}, id=f"{name}-{each.name}-{value}"
                    )
    more = {"bits": 3, "all_tensors": True}
    yield pytest.param("bitdelta", more, id="bitdelta-bits-3")
    yield pytest.param("sce", {"select_topk": 0.3}, id="sce-select_topk-0.3")
    more = {"nuslerp_flatten": False, "nuslerp_row_wise": True}
    yield pytest.param("nuslerp", more, id="nuslerp-rows")


@pytest.fixture(scope="module")
def states():
    """A base and three models near to it, whose differences have many equal entries."""
    generator = torch.Generator().manual_seed(0)
    base = {n: torch.randn(s, generator=generator).to(d) for n, (s, d) in SHAPES.items()}
    made = [base]
    for _ in range(3):
        near = {
            n: (v.float() + 0.01 * torch.randn(v.shape, generator=generator)).to(v.dtype)
            for n, v in base.items()
        }
        made.append(near)
    return made


def outcome(folder):
    """Tensor → digest, and the model's."""
    checkpoint = read_checkpoint(folder)
    digests = digest_tensors(checkpoint.tensors, jobs=1)
    return {ref.name: digests[ref.name] for ref in checkpoint.tensors}, digest_model(
        digests, tied=checkpoint.tied
    )


@pytest.mark.parametrize(("name", "parameters"), list(choices()))
def test_bytes_do_not_depend_on_threads_slices_or_shards(
    *, name, parameters, states, make_parent, planned, tmp_path
):
    base, *models = (make_parent(str(i), state) for i, state in enumerate(states))
    plan = planned(name, models[: METHODS[name].n_models[1]], base=base, seed=5, **parameters)
    files, found = set(), []
    for i, (jobs, chunk, shard_bytes, memory_bytes) in enumerate(WAYS):
        folder = tmp_path / str(i)
        folder.mkdir()
        done = run_plan(
            plan, folder, metadata={}, jobs=jobs, chunk=chunk, shard_bytes=shard_bytes,
            memory_bytes=memory_bytes,
        )  # fmt: skip
        found.append(outcome(folder))
        assert done.digests == found[-1][0]
        shards = list(folder.glob("*.safetensors"))
        assert (len(shards) > 1) is (shard_bytes < 1 << 30)
        if len(shards) == 1:
            files.add(shards[0].read_bytes())
    assert all(each == found[0] for each in found)
    assert found[0][0].keys() == SHAPES.keys()
    assert len(files) == 1
