"""Signatures hold for what was signed, name what was changed, and need no network."""

import base64
import json
import shutil
import socket
import subprocess
import sys

import pytest
from signing_keys import certificates, key_pair

from registry.errors import BadParameter, MissingExtra, OutputExists, Unreadable
from registry.signature import PASSWORD, SIGNATURE, sign, signature_of, tampered


@pytest.fixture(scope="module")
def keys(tmp_path_factory):
    folder = tmp_path_factory.mktemp("keys")
    for name in ("key", "other"):
        key_pair(folder, name)
    key_pair(folder, "locked", "sesame")
    return folder


@pytest.fixture(autouse=True)
def _no_network(monkeypatch):
    def refuse(*args, **kwargs):
        message = "a socket was asked for"
        raise AssertionError(message)

    monkeypatch.setattr(socket, "socket", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


@pytest.fixture
def model(family, tmp_path):
    folder = tmp_path / "model"
    shutil.copytree(family.chat, folder)
    (folder / "homolog.json").write_text('{"kind": "test"}')
    (folder / "sub").mkdir()
    (folder / "sub" / "notes.txt").write_text("notes")
    return folder


@pytest.fixture
def signed(model, keys):
    assert sign(model, keys / "key.pem") == model / SIGNATURE
    return model


def _found(root, keys, key="key"):
    return [(t.what, t.where) for t in tampered(root, key=keys / f"{key}.pub")]


def test_what_was_signed_holds(signed, keys):
    assert _found(signed, keys) == []


def test_a_moved_folder_holds_and_git_s_files_do_not_count(signed, keys, tmp_path):
    moved = tmp_path / "elsewhere"
    signed.rename(moved)
    (moved / ".git").mkdir()
    (moved / ".git" / "config").write_text("x")
    assert _found(moved, keys) == []


def test_each_change_is_named_by_its_file(signed, keys):
    weights = signed / "model.safetensors"
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(data)
    (signed / "homolog.json").write_text('{"kind": "other"}')
    (signed / "added.py").write_text("import os")
    (signed / "sub" / "notes.txt").unlink()
    found = tampered(signed, key=keys / "key.pub")
    assert [(t.what, t.where) for t in found] == [
        ("file", "added.py"), ("file", "homolog.json"), ("file", "model.safetensors"), ("file", "sub/notes.txt"),
    ]  # fmt: skip
    assert [t.detail.split()[0] for t in found] == ["is", "holds", "holds", "was"]


def test_a_renamed_file_is_one_less_and_one_more(signed, keys):
    (signed / "config.json").rename(signed / "Config.json")
    assert _found(signed, keys) == [("file", "Config.json"), ("file", "config.json")]


def test_another_key_is_not_the_signer(signed, keys):
    (found,) = tampered(signed, key=keys / "other.pub")
    assert (found.what, found.where) == ("signature", SIGNATURE)
    assert "Key mismatch" in found.detail


def test_a_signature_of_another_model_does_not_serve(signed, family, keys, tmp_path):
    other = tmp_path / "other"
    shutil.copytree(family.math, other)
    shutil.copy(signed / SIGNATURE, other)
    assert ("file", "model.safetensors") in _found(other, keys)


def test_a_list_that_was_changed_after_signing_is_refused(signed, keys):
    place = signed / SIGNATURE
    document = json.loads(place.read_text())
    payload = json.loads(base64.b64decode(document["dsseEnvelope"]["payload"]))
    payload["predicate"]["resources"] = payload["predicate"]["resources"][:-1]
    document["dsseEnvelope"]["payload"] = base64.b64encode(json.dumps(payload).encode()).decode()
    place.write_text(json.dumps(document))
    first, *_ = tampered(signed, key=keys / "key.pub")
    assert (first.what, first.detail) == (
        "signature",
        "it was not made with this key, or was changed",
    )


def test_a_swapped_hint_does_not_help_a_wrong_key(signed, keys, tmp_path):
    shutil.copytree(signed, tmp_path / "mine")
    (tmp_path / "mine" / SIGNATURE).unlink()
    sign(tmp_path / "mine", keys / "other.pem")
    mine = json.loads((tmp_path / "mine" / SIGNATURE).read_text())
    theirs = json.loads((signed / SIGNATURE).read_text())
    mine["verificationMaterial"] = theirs["verificationMaterial"]
    (signed / SIGNATURE).write_text(json.dumps(mine))
    assert _found(signed, keys)[0] == ("signature", SIGNATURE)


@pytest.mark.parametrize(
    "text", ["", "{}", "[]", "{", '{"dsseEnvelope": {"payload": "e30="}}', "\x00", "[" * 1000]
)
def test_what_is_no_signature_is_said_to_be_none(signed, keys, text):
    (signed / SIGNATURE).write_text(text)
    assert _found(signed, keys) == [("signature", SIGNATURE)]


def test_a_missing_signature_is_no(model, keys):
    assert [t.detail for t in tampered(model, key=keys / "key.pub")] == ["there is none"]


def test_what_a_signer_left_out_is_named(model, keys):
    from model_signing import hashing, signing  # noqa: PLC0415 - as others sign

    config = hashing.Config().set_ignored_paths(paths=[SIGNATURE, "model.safetensors"])
    signing.Config().set_hashing_config(config).use_elliptic_key_signer(
        private_key=keys / "key.pem"
    ).sign(model, model / SIGNATURE)
    assert _found(model, keys) == [("file", "model.safetensors")]


def test_ours_is_a_signature_for_other_tools_and_theirs_for_us(signed, model, keys):
    from model_signing import hashing, signing, verifying  # noqa: PLC0415 - as others verify

    verifying.Config().use_elliptic_key_verifier(public_key=keys / "key.pub").verify(
        signed, signed / SIGNATURE
    )
    (model / SIGNATURE).unlink()
    config = hashing.Config().set_ignored_paths(paths=[SIGNATURE])
    signing.Config().set_hashing_config(config).use_elliptic_key_signer(
        private_key=keys / "key.pem"
    ).sign(model, model / SIGNATURE)
    assert _found(model, keys) == []


def test_a_single_file_is_signed_beside_itself(signed, keys, tmp_path):
    file = tmp_path / "bare.safetensors"
    shutil.copy(signed / "model.safetensors", file)
    assert sign(file, keys / "key.pem") == signature_of(file) == tmp_path / "bare.safetensors.sig"
    assert _found(file, keys) == []
    file.write_bytes(b"other")
    assert _found(file, keys) == [("file", ".")]


def test_certificates_are_trusted_from_their_root(model, tmp_path):
    own, root = certificates(tmp_path)
    _, stranger = certificates(tmp_path, "stranger")
    sign(model, tmp_path / "key.pem", [own])
    assert tampered(model, certificates=[root]) == ()
    (found,) = tampered(model, certificates=[stranger])
    assert "its certificate is not trusted" in found.detail
    (model / "config.json").write_text("{}")
    assert [t.where for t in tampered(model, certificates=[root])] == ["config.json"]


def test_a_locked_key_wants_its_password(model, keys, monkeypatch):
    with pytest.raises(BadParameter, match=r"locked\.pem cannot sign") as caught:
        sign(model, keys / "locked.pem")
    assert PASSWORD in caught.value.hint
    monkeypatch.setenv(PASSWORD, "sesame")
    sign(model, keys / "locked.pem")
    assert _found(model, keys, "locked") == []


def test_a_locked_key_with_a_certificate_is_refused_with_a_way_out(model, tmp_path, monkeypatch):
    own, _ = certificates(tmp_path)
    key_pair(tmp_path, "locked", "sesame")
    monkeypatch.setenv(PASSWORD, "sesame")
    with pytest.raises(BadParameter, match="cannot sign") as caught:
        sign(model, tmp_path / "locked.pem", [own])
    assert PASSWORD not in caught.value.hint
    assert "openssl ec -in key.pem -out" in caught.value.hint


def test_keys_that_are_none_are_named(model, keys, tmp_path):
    (tmp_path / "junk.pem").write_text("junk")
    for key in (tmp_path / "junk.pem", keys / "key.pub"):
        with pytest.raises(BadParameter, match="cannot sign"):
            sign(model, key)
    for key in (tmp_path / "junk.pem", keys / "key.pem"):
        with pytest.raises(BadParameter, match="cannot verify") as caught:
            tampered(model, key=key)
        assert "openssl" in caught.value.hint
    assert not (model / SIGNATURE).exists()


def test_a_signature_is_not_overwritten(signed, keys):
    before = (signed / SIGNATURE).read_bytes()
    with pytest.raises(OutputExists, match=r"model\.sig is there already"):
        sign(signed, keys / "key.pem")
    assert (signed / SIGNATURE).read_bytes() == before


def test_links_are_not_signed_but_what_they_lead_to_verifies(signed, keys, tmp_path):
    linked = tmp_path / "linked"  # as a cache of downloads lays out what was signed elsewhere
    linked.mkdir()
    for file in signed.iterdir():
        if file.is_file():
            (linked / file.name).symlink_to(file)
    shutil.copytree(signed / "sub", linked / "sub")
    assert _found(linked, keys) == []
    (linked / SIGNATURE).unlink()
    with pytest.raises(Unreadable, match="is a link; only files can be signed"):
        sign(linked, keys / "key.pem")


def test_nothing_is_left_where_the_signature_cannot_be_written(model, keys, monkeypatch):
    def full(self, target):
        raise OSError(28, "No space left on device", str(self))

    monkeypatch.setattr("pathlib.Path.replace", full)
    with pytest.raises(Unreadable, match="No space left"):
        sign(model, keys / "key.pem")
    assert not [p for p in model.iterdir() if "sig" in p.name]


def test_without_the_extra_the_command_to_install_it_is_named(model, keys, monkeypatch):
    monkeypatch.setitem(sys.modules, "model_signing", None)
    for call in (
        lambda: sign(model, keys / "key.pem"),
        lambda: tampered(model, key=keys / "key.pub"),
    ):
        with pytest.raises(MissingExtra, match="is not installed") as caught:
            call()
        assert caught.value.hint == "pip install 'homolog[sign]'"


def test_importing_us_does_not_load_the_library():
    code = "import sys, registry.signature; assert 'model_signing' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
