"""`reg verify` and `reg reproduce`."""

import json

from signing_keys import key_pair


def test_what_was_merged_verifies(known):
    found = known.json("verify", "merged")
    assert found["ok"] is True
    assert found["differences"] == []
    assert set(found["checked"]) == {"file format", "sidecar", "metadata", "catalog"}
    assert found["digest"] == known.json("show", "merged")["id"]
    assert "19 tensors agree" in known.run("verify", "merged").stdout


def test_one_flipped_byte_is_found_and_named(place):
    place.run("scan", "models")
    file = place.folder / "models" / "chat" / "model.safetensors"
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(data)
    found = place.json("verify", "models/chat", code=3)
    assert found["ok"] is False
    assert [d["what"] for d in found["differences"]] == ["tensor"]
    said = place.run("verify", "models/chat", code=3).stdout
    assert "1 differences" in said
    assert found["differences"][0]["where"] in said


def test_the_recorded_recipe_gives_the_same_bytes(scanned):
    digest = scanned.run(
        "merge", "--method", "dare_ties", "chat", "math", "-o", "merged", "-q"
    ).stdout.strip()
    made = scanned.json("reproduce", "merged", "-o", "again")
    assert made["ok"] is True
    assert made["digest"] == made["expected"] == digest
    assert scanned.run("reproduce", "merged", "-o", "third", "-q").stdout.strip() == digest


def test_other_bytes_are_a_no(place):
    place.run("scan", "models")
    place.run("merge", "--method", "linear", "chat", "math", "-o", "merged")
    sidecar = place.folder / "merged" / "homolog.json"
    noted = json.loads(sidecar.read_text())
    noted["recipe"]["modules"][0]["slices"][0]["sources"][0]["parameters"]["weight"] = 0.9
    sidecar.write_text(json.dumps(noted))
    (place.folder / ".reg" / "catalog.duckdb").unlink()
    place.run("scan", "models", "merged")
    made = place.json("reproduce", "merged", "-o", "again", code=3)
    assert made["ok"] is False
    assert made["digest"] != made["expected"]


def test_a_model_without_a_recipe_cannot_be_reproduced(known):
    assert "no recipe" in known.run("reproduce", "chat", "-o", "never", code=1).stderr


def test_a_signed_merge_verifies_and_a_changed_one_names_the_file(place):
    place.run("scan", "models")
    place.run("merge", "--method", "linear", "chat", "math", "-o", "merged")
    digest = place.json("show", "merged")["id"]
    key_pair(place.folder)
    key_pair(place.folder, "other")
    said = place.json("sign", "merged", "--key", "key.pem")
    assert said == {
        "signature": str(place.folder / "merged" / "model.sig"), "folder": str(place.folder / "merged")
    }  # fmt: skip
    signed = ("verify", "merged", "--signature", "--key", "key.pub")
    found = place.json(*signed)
    assert found["ok"]
    assert "signature" in found["checked"]
    assert place.json("verify", "merged")["ok"]  # the signature disturbs nothing
    assert place.json("verify", "merged")["digest"] == digest
    place.run("scan", "merged")
    assert place.json("show", "merged")["id"] == digest
    assert place.json("sql", "from problems") == []
    assert "Key mismatch" in place.run("verify", "merged", "--key", "other.pub", code=3).stdout
    (place.folder / "merged" / "added.py").write_text("x = 1")
    found = place.json(*signed, code=3)
    assert [(d["what"], d["where"]) for d in found["differences"]] == [("file", "added.py")]
    assert "added.py" in place.run(*signed, code=3).stdout


def test_who_is_to_have_signed_must_be_said(place):
    key_pair(place.folder)
    assert (
        "needs --key or --certificate"
        in place.run("verify", "models/chat", "--signature", code=2).stderr
    )
    both = ("--key", "key.pub", "--certificate", "key.pem")
    place.run("verify", "models/chat", *both, code=2)
    place.run("sign", "models/chat", code=2)
    place.run("sign", "models/chat", "--key", "nowhere.pem", code=2)
    assert "there is none" in place.run("verify", "models/chat", "--key", "key.pub", code=3).stdout
