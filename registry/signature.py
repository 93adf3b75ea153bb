"""Signatures of models, in the format of the OpenSSF (OMS), and the door to model_signing.

A signature lists every file of a model with its SHA-256 and is signed with a key of the user's own. It lies beside the
weights, as `model.sig`, and any tool that knows the format can verify it. Nothing here asks the network: neither
certificates nor keys are looked up.
"""

import base64
import binascii
import hashlib
import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

from registry.documents import parse_json, read_json
from registry.errors import BadDocument, BadParameter, MissingExtra, OutputExists, Unreadable
from registry.whole_file import put_in_place

SIGNATURE = "model.sig"
"""The file in a signed folder; that of a single file has its name and ``.sig``."""

PASSWORD = "REG_KEY_PASSWORD"  # noqa: S105 - a name
"""The environment variable with the password of a key that has one."""

_GIT = (".git", ".gitattributes", ".github", ".gitignore")
"""What the format leaves out at the top of a folder."""

_FOREIGN = (ValueError, TypeError, KeyError, IndexError, AttributeError)
"""What the library raises for keys and signatures that are none."""

_NO_KEY = "openssl ecparam -name prime256v1 -genkey -noout -out key.pem makes one"
_NO_PASSWORD = "with a certificate the key must have no password: openssl ec -in key.pem -out open.pem takes it off"  # noqa: S105 - a hint
_NO_PUBLIC_KEY = "openssl ec -in key.pem -pubout -out key.pub writes that of a private key"


@dataclass(frozen=True)
class Tampering:
    """One thing that does not agree with a signature.

    Attributes:
        what: "file" or "signature".
        where: the file's name in the model.
        detail: in words.
    """

    what: str
    where: str
    detail: str


def sign(root: Path, key: Path, certificates: Sequence[Path] = ()) -> Path:
    """Sign all files of a model.

    Args:
        root: folder, or single file.
        key: private key in PEM, of the curve P-256, P-384 or P-521; its password, if any, is in `PASSWORD`. With
            certificates it has none: the library asks for none.
        certificates: in PEM: the key's own, then those that lead to one that is trusted. Empty: whoever verifies must have
            the public key.

    Returns:
        The signature's file.

    Raises:
        OutputExists: there is a signature already.
        MissingExtra: model_signing is not installed.
        BadParameter: the key or a certificate cannot be used.
        Unreadable: a file is a link, or cannot be read or written.
    """
    place = signature_of(root)
    if os.path.lexists(place):
        message = f"{place} is there already; it is not overwritten"
        raise OutputExists(message, hint=f"remove {place} to sign anew")
    hashing, signing, _ = _library()
    _refuse_links(root)
    password = os.environ.get(PASSWORD)
    config = signing.Config().set_hashing_config(_hashing(hashing, place, links=False))
    try:
        if certificates:
            own, *chain = certificates
            config.use_certificate_signer(
                private_key=key,
                signing_certificate=own,
                certificate_chain=chain or [own],  # the library reads no empty one
            )
        else:
            secret: Any = password.encode() if password else None  # cryptography wants bytes
            config.use_elliptic_key_signer(private_key=key, password=secret)
    except OSError as error:
        message = f"{error.filename}: cannot be read: {error.strerror}"
        raise Unreadable(message) from error
    except _FOREIGN as error:
        message = f"{key} cannot sign: {_first_line(error)}"
        of_password = _NO_PASSWORD if certificates else f"{PASSWORD} holds a password"
        raise BadParameter(message, hint=f"{_NO_KEY}; {of_password}") from error
    new = place.with_name(f".{place.name}.{uuid4().hex}")
    try:
        config.sign(root, new)
        put_in_place(new, place)
    except OSError as error:
        message = f"{place} cannot be written: {error.strerror}"
        raise Unreadable(message) from error
    finally:
        new.unlink(missing_ok=True)
    return place


def tampered(
    root: Path, *, key: Path | None = None, certificates: Sequence[Path] = ()
) -> tuple[Tampering, ...]:
    """What of a model does not agree with its signature, files by name; nothing where it holds.

    Args:
        root: folder, or single file.
        key: public key in PEM that must have signed.
        certificates: without a key: those in PEM that are trusted.

    Raises:
        MissingExtra: model_signing is not installed.
        BadParameter: the key or a certificate cannot be used.
    """
    hashing, _, verifying = _library()
    config = verifying.Config()
    try:
        if key:
            config.use_elliptic_key_verifier(public_key=key)
        else:
            config.use_certificate_verifier(certificate_chain=certificates)
    except (OSError, *_FOREIGN) as error:
        used = key or ", ".join(map(str, certificates))
        message = f"{used} cannot verify: {_first_line(error)}"
        raise BadParameter(message, hint=_NO_PUBLIC_KEY) from error
    place = signature_of(root)
    if not place.is_file():
        return (Tampering("signature", place.name, "there is none"),)
    try:
        signed = _signed(place)
    except BadDocument as error:
        return (Tampering("signature", place.name, error.message),)
    config.set_hashing_config(_hashing(hashing, place, links=True))
    fault = _fault(config, root, place)
    found = _different(root, place, signed, read=bool(fault))
    if fault and not (found and fault.startswith("Signature mismatch")):
        found = (Tampering("signature", place.name, fault), *found)
    return found


def signature_of(root: Path) -> Path:
    """Where the signature of a model lies."""
    return root / SIGNATURE if root.is_dir() else root.with_name(f"{root.name}.sig")


def _library() -> tuple[Any, Any, Any]:
    """The parts of model_signing, which takes a while to load."""
    try:
        from model_signing import hashing, signing, verifying  # noqa: PLC0415 - an extra
    except ImportError as error:
        message = f"{error.name} is not installed, which signatures need"
        raise MissingExtra(message, hint="pip install 'homolog[sign]'") from error
    return hashing, signing, verifying


def _hashing(hashing: Any, place: Path, *, links: bool) -> Any:
    """How files are digested: each whole by SHA-256, all but the signature."""
    config = hashing.Config().use_file_serialization(hashing_algorithm="sha256")
    return config.set_ignored_paths(paths=[place.name]).set_allow_symlinks(links)


def _fault(config: Any, root: Path, place: Path) -> str:
    """What the library finds wrong, in its words; empty when the signature holds."""
    from cryptography.exceptions import InvalidSignature  # noqa: PLC0415 (as above)
    from OpenSSL.crypto import X509StoreContextError  # noqa: PLC0415 (as above)

    logging.getLogger("model_signing").setLevel(logging.ERROR)
    try:
        config.verify(root, place)
    except InvalidSignature:
        return "it was not made with this key, or was changed"
    except X509StoreContextError as error:
        return f"its certificate is not trusted: {_first_line(error)}"
    except OSError as error:
        return f"{error.filename} cannot be read: {error.strerror}"
    except _FOREIGN as error:
        return _first_line(error) or type(error).__name__
    return ""


def _signed(place: Path) -> dict[str, str]:
    """The files that a signature says it is of: name → SHA-256. That it holds is for the library to say.

    Raises:
        BadDocument: it is not a signature of whole files.
    """
    document = read_json(place)
    try:
        text = base64.b64decode(document["dsseEnvelope"]["payload"], validate=True).decode()
        predicate = parse_json(text, where=place.name)["predicate"]
        files = {str(each["name"]): each for each in predicate["resources"]}
        if any(each["algorithm"] != "sha256" for each in files.values()):
            message = f"{place.name}: only signatures of whole files by SHA-256 are understood"
            raise BadDocument(message)
        return {name: str(each["digest"]) for name, each in files.items()}
    except (*_FOREIGN, binascii.Error) as error:
        message = f"{place.name}: is not a signature of a model"
        raise BadDocument(message) from error


def _different(
    root: Path, place: Path, signed: Mapping[str, str], *, read: bool
) -> tuple[Tampering, ...]:
    """Files that are not as they were signed, by name.

    Args:
        root: folder, or single file.
        place: of the signature.
        signed: name → SHA-256.
        read: compare also what is in the files.
    """
    there = {name: path for name, path in _files(root) if path != place}
    found = []
    for name in sorted(signed.keys() | there.keys()):
        if name not in there:
            found.append(Tampering("file", name, "was signed and is not there"))
        elif name not in signed:
            found.append(Tampering("file", name, "is not among the files that were signed"))
        elif read:
            try:
                with there[name].open("rb") as stream:
                    now = hashlib.file_digest(stream, "sha256").hexdigest()
            except OSError as error:
                found.append(Tampering("file", name, f"cannot be read: {error.strerror}"))
                continue
            if now != signed[name]:
                detail = f"holds sha256 {now[:12]}, {signed[name][:12]} was signed"
                found.append(Tampering("file", name, detail))
    return tuple(found)


def _files(root: Path) -> Iterator[tuple[str, Path]]:
    """Every file of a model with its name in it, but for those of git; links to folders are files that cannot be read."""
    if not root.is_dir():
        yield ".", root
        return
    for folder, folders, files in os.walk(root):
        inside = Path(folder)
        links = [name for name in folders if (inside / name).is_symlink()]
        for name in (*files, *links):
            path = inside / name
            relative = path.relative_to(root)
            if relative.parts[0] not in _GIT:
                yield relative.as_posix(), path


def _refuse_links(root: Path) -> None:
    """A signature is of files, and who gets a folder does not get what its links lead to."""
    for _, path in _files(root):
        if path.is_symlink():
            message = f"{path} is a link; only files can be signed"
            raise Unreadable(message, hint="sign a copy: cp -rL")


def _first_line(error: BaseException) -> str:
    """The first line of what a library said, without a full stop."""
    return (str(error).strip().splitlines() or [""])[0].rstrip(". ")
