"""`reg push`: a model to the Hub, with a card that its lineage writes."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

import homolog
from cli.block import Facts, Text
from cli.command import Command
from cli.session import Session

if TYPE_CHECKING:
    from registry.publication import Publication
    from registry.push import Push


@click.command(cls=Command)
@click.argument("model")
@click.argument("repository", metavar="ORG/NAME")
@click.option(
    "--private", is_flag=True, help="Make the repository private; refuse one that is public."
)
@click.option(
    "--revision", metavar="BRANCH", help="Branch of the repository, made if need be. Default: main."
)
@click.option("--message", metavar="TEXT", help="Of the commit.")
@click.option("--create-pr", is_flag=True, help="Open a pull request instead of a commit on main.")
@click.option(
    "--dry-run", is_flag=True, help="Print the card and list the files; ask nobody, send nothing."
)
@click.option(
    "--card",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Take text and keys of FILE, not of the model's own README.md.",
)
@click.option(
    "--benchmark",
    "benchmarks",
    multiple=True,
    metavar="SUITE=ORG/DATASET[:TASK]",
    help="Which benchmark of the Hub a suite is; its measured scores go to .eval_results.",
)
@click.option(
    "--allow-license-conflict",
    metavar="REASON",
    help="Push although no licence satisfies all it was made of; the reason is recorded, in the card too.",
)
@click.option(
    "--no-verify", is_flag=True, help="Do not digest the weights again before they are sent."
)
@click.option(
    "--jobs", type=click.IntRange(min=1), help="Threads that read. Default: one per core."
)
@click.pass_obj
def command(
    session: Session, model: str, repository: str, *, private: bool, revision: str | None, message: str | None,
    create_pr: bool, dry_run: bool, card: Path | None, benchmarks: tuple[str, ...],
    allow_license_conflict: str | None, no_verify: bool, jobs: int | None,
) -> None:  # fmt: skip
    """Push a model to the Hub, with a card that tells its lineage.

    Weights, configs, tokenizer, card and homolog.json go there together or not at all; a push that was stopped sends
    only what is missing. The weights are digested again first. The card keeps the text and keys of the model's own; from the
    lineage come base_model and its relation, the licence where it follows from all the model was made of, tags, and measured
    scores. Parents that are on no Hub are told by name and digest, never by path.

    Models whose licences cannot all be obeyed are refused, unless --allow-license-conflict says why. Afterwards the catalog
    knows the model as hf://org/name at the commit. The token is the one of hf auth login, or HF_TOKEN.

    Examples:
      reg push merged org/merged --dry-run
      reg push chat org/chat --dry-run --private --json
    """
    target = homolog.target_of(repository, branch=revision, private=private, pull_request=create_pr)
    id_ = session.model(model)
    asked = homolog.Asked(allow_license_conflict, card, benchmarks)
    planned = homolog.publication(session.catalog, id_, target, asked)
    for warning in planned.warnings:
        session.out.warning(warning)
    for note in planned.notes:
        session.out.note(note)
    if planned.left:
        session.out.note(f"not pushed: {', '.join(planned.left)}")
    if dry_run:
        _show(session, planned)
        return
    if not no_verify:
        with session.progress() as progress:
            homolog.refuse_changed(session.catalog, planned, jobs=jobs, progress=progress)
    done = homolog.push(
        session.catalog, planned, message=message, told=session.out.warning,
        bars=session.voice == "human" and sys.stderr.isatty(),
    )  # fmt: skip
    _tell(session, done)


def _tell(session: Session, done: "Push") -> None:
    """Say what is on the Hub now."""
    planned, pushed = done.publication, done.pushed
    document = _document(planned) | {
        "address": done.uri, "commit": pushed.repository.commit, "revision": pushed.revision, "url": pushed.url,
        "created": pushed.created, "unchanged": pushed.unchanged, "removed": pushed.removed,
        "replaced": pushed.replaced, "noted": done.noted,
    }  # fmt: skip
    session.out.answer(
        document,
        Facts((
            ("model", planned.name, "text"),
            ("address", done.uri, "text"),
            ("shown at", pushed.url, "text"),
            ("branch", pushed.revision, "text"),
            ("files", len(planned.uploads), "count"),
            ("size", planned.n_bytes, "bytes"),
            ("licence", f"{planned.license.suggested or 'no single one'} ({planned.license.why})", "text"),
        )),
        ids=[planned.model],
    )  # fmt: skip
    if pushed.unchanged:
        session.out.note("all of it was there already; no commit was made")
    for what, paths in (
        ("removed there, of an earlier model", pushed.removed), ("replaced there", pushed.replaced),
    ):  # fmt: skip
        if paths:
            session.out.note(f"{what}: {', '.join(paths)}")
    if not done.noted:
        session.out.warning("it is there, but the catalog could not be told")
        branch = "" if pushed.revision == "main" else f"@{pushed.revision}"
        session.out.hint(f"reg scan hf://{pushed.repository.name}{branch}")


def _show(session: Session, planned: "Publication") -> None:
    """Print the card, and say what would be sent."""
    session.out.answer(_document(planned), Text(planned.card.rstrip("\n")), ids=[planned.model])
    for upload in planned.uploads:
        session.out.note(f"{upload.path}: {upload.size_bytes:,} bytes")
    branch = planned.target.branch
    session.out.note(
        f"{len(planned.uploads)} files of {planned.n_bytes:,} bytes would be in one commit on {branch} of "
        f"hf://{planned.target.name}; whether that is there, and what it has already, was not asked"
    )


def _document(planned: "Publication") -> dict[str, Any]:
    """What is decided, as plain values."""
    return {
        "model": planned.name,
        "digest": planned.model,
        "repository": planned.target.name,
        "private": planned.target.private,
        "files": [{"path": u.path, "bytes": u.size_bytes} for u in planned.uploads],
        "bytes": planned.n_bytes,
        "left": planned.left,
        "parents": [
            {
                "id": p.id, "name": p.name, "repository": p.repository, "relation": p.relation, "role": p.role,
                "coefficient": p.coefficient, "status": p.status,
            }
            for p in planned.parents
        ],
        "license": planned.license.suggested,
        "card": planned.card,
        "notes": planned.notes,
        "warnings": planned.warnings,
    }  # fmt: skip
