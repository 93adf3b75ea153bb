"""Where the files of `schema/` and `data/` are."""

from registry import resources


def test_the_folders_are_there():
    assert (resources.schema_folder() / "views").is_dir()
    assert resources.data_folder().is_dir()


def test_the_folders_are_those_of_the_checkout_or_of_the_wheel():
    package = resources.schema_folder().parent
    assert resources.data_folder().parent == package
    assert resources.schema_folder().name in ("schema", "_schema")


def test_migrations_come_in_their_order():
    versions = [version for version, _ in resources.migrations()]
    assert versions == sorted(versions)
    assert all(
        file.is_file() and int(file.name[:4]) == version for version, file in resources.migrations()
    )
