"""Parents with and without a head of their own, brought to the same names."""

import os

import pytest
import torch

from engine.parent import family, refuse_change
from registry.errors import FileChanged

EMBED, HEAD = "model.embed_tokens.weight", "lm_head.weight"
TIED, UNTIED = {"tie_word_embeddings": True}, {"tie_word_embeddings": False}


def state(*, head=None, seed=0):
    generator = torch.Generator().manual_seed(seed)
    made = {EMBED: torch.randn((6, 4), generator=generator), "w": torch.zeros(2)}
    if head == "copy":
        made[HEAD] = made[EMBED].clone()
    elif head == "own":
        made[HEAD] = torch.randn((6, 4), generator=generator)
    return made


def test_heads_that_are_copies_are_left_out(make_parent):
    found = family(
        [make_parent("a", state(head="copy"), config=TIED), make_parent("b", state(), config=TIED)]
    )
    assert found.names == [EMBED, "w"]
    assert (found.n_dropped, found.stand_ins) == (1, ())


def test_a_copy_that_the_config_unties_is_a_head(make_parent):
    parent = make_parent("a", state(head="copy"), config=UNTIED)
    found = family([parent])
    assert found.names == [HEAD, EMBED, "w"]
    assert found.n_dropped == 0


def test_an_embedding_stands_for_the_head_of_a_tied_parent(make_parent):
    base = make_parent("base", state(head="copy"), config=TIED)
    tied = make_parent("tied", state(seed=1), config=TIED)
    own = make_parent("own", state(head="own"), config=UNTIED)
    found = family([base, tied, own])
    assert [(p.name, h, e) for p, h, e in found.stand_ins] == [
        ("base", HEAD, EMBED),
        ("tied", HEAD, EMBED),
    ]
    assert [table[HEAD].name for table in found.tables] == [EMBED, EMBED, HEAD]


def test_nothing_stands_for_the_head_that_an_untied_parent_lost(make_parent):
    lost = make_parent("lost", state(), config=UNTIED)
    own = make_parent("own", state(head="own"), config=UNTIED)
    found = family([lost, own])
    assert not found.stand_ins
    assert HEAD not in found.tables[0]


def test_parents_without_digests_keep_their_heads(make_parent):
    parent = make_parent("a", state(head="copy"), config=TIED)
    header_only = type(parent)(parent.id, parent.name, parent.checkpoint, {})
    assert family([header_only]).names == [HEAD, EMBED, "w"]


def test_a_head_that_the_digests_lack_is_a_copy(make_parent):
    parent = make_parent("a", state(head="copy"), config=TIED)
    digests = {name: digest for name, digest in parent.digests.items() if name != HEAD}
    scanned_without_head = type(parent)(parent.id, parent.name, parent.checkpoint, digests)
    assert family([scanned_without_head]).names == [EMBED, "w"]


def test_files_that_stayed_the_same_are_not_refused(make_parent):
    parent = make_parent("a", state(), shards=2)
    (parent.checkpoint.root / "README.md").write_text("new", encoding="utf-8")
    refuse_change([parent])


@pytest.mark.parametrize("what", ["touched", "longer", "gone"])
def test_weights_that_changed_are_refused(what, make_parent):
    parent = make_parent("a", state(), shards=2)
    file = parent.checkpoint.root / "model-00002-of-00002.safetensors"
    if what == "touched":
        os.utime(file, ns=(5, 5))
    elif what == "longer":
        with file.open("ab") as opened:
            opened.write(b"x")
    else:
        file.unlink()
    with pytest.raises(
        FileChanged, match=r"model-00002-of-00002\.safetensors of a changed"
    ) as caught:
        refuse_change([parent])
    assert str(parent.checkpoint.root) in caught.value.hint


def rewritten(file, content):
    """Write into a file and put its old time back."""
    status = file.stat()
    with file.open("r+b") as there:
        there.write(content)
    os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))


def test_weights_that_were_rewritten_with_their_old_time_are_refused(make_parent):
    parent = make_parent("a", state(), config=UNTIED)
    file = next(parent.checkpoint.root.glob("*.safetensors"))
    rewritten(file, file.read_bytes()[:-1] + b"x")
    with pytest.raises(FileChanged, match="changed while it was read"):
        refuse_change([parent])


def test_weights_that_were_replaced_by_others_of_their_size_and_time_are_refused(make_parent):
    parent = make_parent("a", state(), config=UNTIED)
    file = next(parent.checkpoint.root.glob("*.safetensors"))
    new, status = file.with_name("new"), file.stat()
    new.write_bytes(file.read_bytes()[:-1] + b"x")
    os.utime(new, ns=(status.st_atime_ns, status.st_mtime_ns))
    new.replace(file)
    with pytest.raises(FileChanged):
        refuse_change([parent])


@pytest.mark.parametrize("head", [None, "copy", "own"])
def test_a_link_or_other_permissions_are_no_change(make_parent, head):
    parent = make_parent("a", state(head=head), config=UNTIED if head == "own" else TIED)
    file = next(parent.checkpoint.root.glob("*.safetensors"))
    os.link(file, parent.checkpoint.root.parent / "backup")
    file.chmod(0o600)
    refuse_change([parent])
