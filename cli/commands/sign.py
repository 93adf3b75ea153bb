"""`reg sign`: a signature that says who stands for these files."""

from pathlib import Path

import click

import homolog
from cli.block import Line
from cli.command import Command
from cli.session import Session

_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)


@click.command(cls=Command)
@click.argument("target", metavar="MODEL|DIR")
@click.option(
    "--key", type=_FILE, required=True, help="Private key, PEM, curve P-256, P-384 or P-521."
)
@click.option(
    "--certificate", "certificates", type=_FILE, multiple=True,
    help="Certificate of the key, PEM; given again, those that lead to a trusted one.",
)  # fmt: skip
@click.pass_obj
def command(
    session: Session, target: str, key: Path, certificates: tuple[Path, ...]
) -> None:  # fmt: skip
    """Sign the files of a model with a key of your own.

    Writes model.sig beside the weights, in the format of OpenSSF Model Signing: a list of all files with their SHA-256, signed.
    Nobody is asked over the network. What is changed, added or removed afterwards, `reg verify --signature` names. A key's
    password is taken from REG_KEY_PASSWORD; with --certificate it must have none. Needs pip install 'homolog[sign]'. To make a
    key, and its public half to verify with:

    \b
      openssl ecparam -name prime256v1 -genkey -noout -out key.pem
      openssl ec -in key.pem -pubout -out key.pub

    Examples:
      reg sign models/chat --key key.pem
    """
    root, _ = homolog.place(session.catalog, target)
    made = homolog.sign(root, key, certificates)
    session.out.answer(
        {"signature": str(made), "folder": str(root)}, Line(f"signed: {made}"), ids=[made]
    )
