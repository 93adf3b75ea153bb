"""The rules of the house, so that nobody has to remember them."""

import ast
import importlib
import json
import re
from collections.abc import Iterator
from pathlib import Path

from engine.methods import all_methods
from registry import errors

ROOT = Path(__file__).parent.parent
ROOMS = ("registry", "engine", "cli")
OURS = [ROOT / "homolog.py", *(f for room in ROOMS for f in sorted((ROOT / room).rglob("*.py")))]
TESTS = sorted((ROOT / "tests").rglob("*.py"))
BANNED_NAMES = {
    "utils",
    "util",
    "helpers",
    "helper",
    "common",
    "manager",
    "managers",
    "misc",
    "base",
}
UNFINISHED = re.compile(r"\b(?:TODO|FIXME|XXX|HACK|NotImplementedError)\b")


def _trees() -> Iterator[tuple[Path, ast.Module]]:
    for file in OURS:
        yield file, ast.parse(file.read_text(encoding="utf-8"))


def _functions(tree: ast.Module) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


def test_no_file_is_longer_than_400_lines() -> None:
    lengths = {f: len(f.read_text(encoding="utf-8").splitlines()) for f in (*OURS, *TESTS)}
    assert not {str(f.relative_to(ROOT)): n for f, n in lengths.items() if n > 400}


def test_no_function_is_longer_than_50_lines() -> None:
    long = [
        f"{file.name}:{f.name} {f.end_lineno - f.lineno + 1}"
        for file, tree in _trees()
        for f in _functions(tree)
        if f.end_lineno is not None and f.end_lineno - f.lineno + 1 > 50 + _docstring_lines(f)
    ]
    assert not long


def _docstring_lines(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    text = ast.get_docstring(function, clean=False)
    return len(text.splitlines()) if text else 0


def test_every_module_public_class_and_function_has_a_docstring() -> None:
    bare = []
    for file, tree in _trees():
        if not ast.get_docstring(tree):
            bare.append(str(file))
        for node in ast.walk(tree):
            named = isinstance(node, ast.ClassDef | ast.FunctionDef) and not node.name.startswith(
                "_"
            )
            if named and not ast.get_docstring(node) and not _is_nested(tree, node):
                bare.append(f"{file.name}:{node.name}")
    assert not bare


def _is_nested(tree: ast.Module, node: ast.AST) -> bool:
    return any(node in ast.walk(outer) for outer in _functions(tree) if outer is not node)


def test_module_names_are_nouns_of_the_field() -> None:
    assert not [f for f in OURS if f.stem in BANNED_NAMES]


def test_nothing_is_left_unfinished() -> None:
    found = [
        f"{file.relative_to(ROOT)}: {line.strip()}"
        for file in (*OURS, *TESTS, *sorted((ROOT / "schema").rglob("*.sql")))
        if file != Path(__file__)
        for line in file.read_text(encoding="utf-8").splitlines()
        if UNFINISHED.search(line)
    ]
    assert not found


def test_no_test_is_skipped() -> None:
    words = re.compile(r"pytest\.(?:skip|importorskip|xfail)|mark\.(?:skip|skipif|xfail)\b")
    others = (file for file in TESTS if file != Path(__file__))
    assert not [file for file in others if words.search(file.read_text(encoding="utf-8"))]


def test_every_method_is_named_as_its_file_cites_a_paper_and_is_proved() -> None:
    for name, method in all_methods().items():
        file = ROOT / "engine" / "methods" / f"{name}.py"
        assert method.name == name
        assert method.paper
        assert method.summary
        assert len(file.read_text(encoding="utf-8").splitlines()) <= 120
        assert (ROOT / "tests" / "engine" / "methods" / f"test_{name}.py").is_file()
        golden = json.loads((ROOT / "data" / "golden" / f"{name}.json").read_text(encoding="utf-8"))
        assert "source" in json.dumps(golden)


def test_every_error_leaf_is_raised_somewhere_and_tested() -> None:
    code = "\n".join(f.read_text(encoding="utf-8") for f in OURS if f.name != "errors.py")
    tests = "\n".join(f.read_text(encoding="utf-8") for f in TESTS if f != Path(__file__))
    for leaf in _leaves(errors.RegError):
        assert re.search(rf"\b{leaf.__name__}\b", code), f"{leaf.__name__} is never raised"
        assert re.search(rf"\b{leaf.__name__}\b", tests), f"{leaf.__name__} is never tested"
        assert re.search(rf"\b{leaf.__name__}\b", errors.__doc__ or ""), (
            f"{leaf.__name__} is not drawn"
        )


def _leaves(error: type[errors.RegError]) -> Iterator[type[errors.RegError]]:
    below = error.__subclasses__()
    if not below:
        yield error
    for sub in below:
        yield from _leaves(sub)


def test_every_module_has_a_test_file() -> None:
    tested = {file.stem.removeprefix("test_") for file in TESTS}
    quiet = {
        "__init__",
        "__main__",
        "progress",
        "version",
        "errors",
        "entry",
    }  # entry: by test_scan
    missing = [
        str(file.relative_to(ROOT))
        for room in ("registry", "engine")
        for file in sorted((ROOT / room).rglob("*.py"))
        if file.stem not in tested | quiet
    ]
    assert not missing


def test_the_public_api_is_sorted_and_importable() -> None:
    homolog = importlib.import_module("homolog")
    assert list(homolog.__all__) == sorted(homolog.__all__)
    for name in homolog.__all__:
        assert getattr(homolog, name) is not None


def test_migrations_have_distinct_numbers() -> None:
    numbers = [file.name[:4] for file in (ROOT / "schema").glob("*.sql")]
    assert len(numbers) == len(set(numbers))
