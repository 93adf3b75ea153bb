"""Recipes, listings, results and suites given to commands, and what is typed."""

import gzip
import os
from collections.abc import Callable
from pathlib import Path

from torture.bad_input import Bad, nothing

RECIPES, LISTS, RESULTS, WORDS, ADDRESSES = "recipes", "listings", "results and suites", "command lines", "addresses and paths"  # fmt: skip

_MODELS = "models: [{model: chat}, {model: math}]\n"
_TIES = "merge_method: ties\nbase_model: base\n" + _MODELS


def _file(name: str, content: str | bytes) -> Callable[[Path], object]:
    raw = content if isinstance(content, bytes) else content.encode()
    return lambda folder: (folder / name).write_bytes(raw)


_RECIPES = {
    "an empty file": ("BadRecipe", ""),
    "a list": ("BadRecipe", "[a, b]"),
    "a picture": ("BadDocument", b"\x89PNG\r\n\x1a\n"),
    "a billion laughs": ("BadDocument", "a0: &a0 [x,x]\n" + "".join(f"a{i}: &a{i} [*a{i - 1},*a{i - 1}]\n" for i in range(1, 40))),
    "an endless circle": ("BadDocument", "&a [*a]"),
    "a nesting bomb": ("BadDocument", "[" * 100_000),
    "an object of Python": ("BadDocument", "!!python/object/apply:os.system ['true']"),
    "a key twice": ("BadDocument", "merge_method: ties\nmerge_method: linear\n"),
    "5 MB": ("BadDocument", "# " + "x" * 5_000_000),
    "no method": ("BadRecipe", _MODELS),
    "a method that does not exist": ("UnknownMethod", "merge_method: tiess\n" + _MODELS),
    "a method with a line end and an escape": ("UnknownMethod", 'merge_method: "a\\n\\e[2J"\n' + _MODELS),
    "a key with a typing error": ("BadRecipe", "merge_methods: ties\n" + _MODELS),
    "models and slices": ("BadRecipe", _TIES + "slices: []\n"),
    "no model": ("BadRecipe", "merge_method: linear\nmodels: []\n"),
    "a model that nobody knows": ("UnknownModel", "merge_method: linear\nmodels: [chat, chatt]\n"),
    "a model that is a number": ("BadRecipe", "merge_method: linear\nmodels: [{model: 7}, chat]\n"),
    "a model that is a device": ("CorruptCheckpoint", "merge_method: linear\nmodels: [/dev/zero, chat]\n"),
    "a weight that is a word": ("BadParameter", _TIES + "parameters: {weight: heavy}\n"),
    "a weight that is NaN": ("BadParameter", _TIES + "parameters: {weight: .nan}\n"),
    "a weight that is infinite": ("BadParameter", _TIES + "parameters: {weight: .inf}\n"),
    "a weight of 10^400": ("BadParameter", _TIES + f"parameters: {{weight: {10**400}}}\n"),
    "a density of 2": ("BadParameter", _TIES + "parameters: {density: 2}\n"),
    "a density that is true": ("BadParameter", _TIES + "parameters: {density: true}\n"),
    "a gradient of nothing": ("BadRecipe", _TIES + "parameters: {density: []}\n"),
    "a parameter that the method has not": ("BadRecipe", _TIES + "parameters: {densitty: 0.5}\n"),
    "a dtype that does not exist": ("BadRecipe", _TIES + "dtype: float17\n"),
    "a seed of 10^400": ("", _TIES + f"seed: {10**400}\n"),
    "a seed of −1": ("", _TIES + "seed: -1\n"),
    "layers that are turned round": ("BadRecipe", "merge_method: passthrough\nslices: [{sources: [{model: chat, layer_range: [2, 0]}]}]\n"),
    "layers that the model has not": ("MissingTensor", "merge_method: passthrough\nslices: [{sources: [{model: chat, layer_range: [0, 99]}]}]\n"),
    "a billion layers": ("MissingTensor", "merge_method: passthrough\nslices: [{sources: [{model: chat, layer_range: [0, 1000000000]}]}]\n"),
    "a tokenizer of another kind": ("BadRecipe", _TIES + "tokenizer_source: [a]\n"),
    "a chat template that is no template": ("BadRecipe", _TIES + "chat_template: nowhere\n"),
    "recipes that need each other": ("BadRecipe", "name: a\nmerge_method: linear\nmodels: [b, chat]\n---\nname: b\nmerge_method: linear\nmodels: [a, chat]\n"),
    "two documents without a name": ("BadRecipe", _TIES + "---\n" + _TIES),
}  # fmt: skip
_LISTS = {
    "an empty file": ("BadListing", b""),
    "Parquet": ("BadListing", b"PAR1" + bytes(60)),
    "one JSON array": ("BadListing", b'[{"id": "a/b"}]'),
    "no column of names": ("BadListing", b"a,b\n1,2\n"),
    "rows of another length": ("BadListing", b"id,likes\na/b,1,2\n"),
    "packed bytes that end too soon": ("BadListing", gzip.compress(b'{"id": "a/b"}\n' * 1000, mtime=0)[:-20]),
    "packed bytes that are none": ("BadListing", b"\x1f\x8b" + bytes(60)),
    "names that are paths": ("BadListing", b'{"id": "../../etc/passwd"}\n'),
    "names that steer the terminal": ("BadListing", b'{"id": "\\u001b[2J/b"}\n'),
    "one line of 2 MB": ("BadListing", b'{"id": "a/b", "x": "' + b"x" * 2_000_000 + b'"}\n'),
    "lines nested 100,000 deep": ("BadListing", b"{" + b'"a":[' * 100_000),
    "a number of 5,000 digits": ("BadListing", b'{"id": ' + b"9" * 5_000 + b"}\n"),
    "half a surrogate pair": ("BadListing", b'{"id": "a/\\ud800"}\n'),
}  # fmt: skip
_RESULTS = {
    "an empty file": ("BadDocument", b""),
    "no results": ("BadSuite", b"{}"),
    "results that are a number": ("BadSuite", b'{"results": 7}'),
    "a model that nobody knows": ("UnknownModel", b'{"results": {"t": {"acc,none": 0.5}}, "model_name": "nobody"}'),
    "no model": ("UnknownModel", b'{"results": {"t": {"acc,none": 0.5}}}'),
    "nested 100,000 deep": ("BadDocument", b'{"results": ' + b"[" * 100_000),
}  # fmt: skip
_SUITES = {
    "an empty suite": ("BadSuite", b""),
    "a suite that is no JSON": ("BadSuite", b"prompt,answer\n"),
    "a suite without answers": ("BadSuite", b'{"prompt": "2+2="}\n'),
    "a suite of numbers": ("BadSuite", b'{"prompt": 2, "answer": 4}\n'),
    "a suite that is not UTF-8": ("BadSuite", b'{"prompt": "\xff", "answer": "4"}\n'),
}  # fmt: skip
_PIPES = (
    ("reg plan", "recipe.yaml", ("plan", "recipe.yaml"), "Unreadable"),
    ("reg import", "list.jsonl", ("import", "list.jsonl"), "Unreadable"),
    ("reg score import", "r.json", ("score", "import", "r.json"), "Unreadable"),
    ("reg score run", "s.jsonl", ("score", "run", "chat", "s.jsonl"), "BadSuite"),
)
_SQL = ("attach ':memory:' as x", "copy models to 'x.csv'", "select * from read_text('/etc/passwd')", "drop view models", "select 1; select 2",
    "install httpfs", "set memory_limit = '1TB'")  # fmt: skip
_LONG = "ä" * 128
_ADDRESSES = (
    ("nothing", ("scan", ""), "BadAddress"),
    ("a scheme that is not known", ("scan", "s3://bucket/model"), "BadAddress"),
    ("a name of 256 bytes", ("scan", _LONG), "BadAddress"),
    ("a repository with three parts", ("scan", "hf://a/b/c"), "BadAddress"),
    ("a repository that leads out", ("scan", "hf://../x"), "BadAddress"),
    ("a revision that leads out", ("scan", "hf://a/b@../x"), "BadAddress"),
    ("a search for nothing", ("scan", "hf:search?"), "BadAddress"),
    ("a limit of −1", ("scan", "hf:search?limit=-1"), "BadAddress"),
    ("a folder that is a device", ("scan", "/dev/zero"), "Unreadable"),
    ("a home folder of nobody", ("scan", "~nobody-of-this-name/x"), "BadAddress"),
    ("a model with an escape", ("show", "\x1b[2J"), "UnknownModel"),
    ("a model of a name of 256 bytes", ("verify", _LONG), "UnknownModel"),
    ("a model in a home folder of nobody", ("verify", "~nobody-of-this-name/x"), "UnknownModel"),
    ("a model that is not UTF-8", ("show", "a\udcff"), "UnknownModel"),
    ("a model that is no SQL", ("show", "'; drop table store.model; --"), "UnknownModel"),
    ("an output whose name has 256 bytes", ("merge", "--method", "linear", "chat", "math", "-o", _LONG), "RunFailed"),
    ("an output below a file", ("merge", "--method", "linear", "chat", "math", "-o", "/dev/null/x"), "RunFailed"),
    ("an output that is there", ("merge", "--method", "linear", "chat", "math", "-o", "."), "OutputExists"),
    ("a demo below a file", ("demo", "--keep", "/dev/null/x"), "RunFailed"),
    ("a catalog below a file", ("scan", ".", "--catalog", "/dev/null/x"), "CatalogDamaged"),
    ("a catalog whose name has 256 bytes", ("scan", ".", "--catalog", _LONG), "CatalogDamaged"),
    ("a catalog that is not there", ("ls", "--catalog", "nowhere"), "CatalogMissing"),
)  # fmt: skip
_WORDS = (
    ("a command that does not exist", ("mrege",), 2, ""),
    ("an option that does not exist", ("ls", "--colour"), 2, ""),
    ("an option that steers the terminal", ("ls", "--\x1b[2J"), 2, ""),
    ("an argument that steers the terminal", ("ls", "\x1b]0;title\x07"), 2, ""),
    ("--jobs 0", ("scan", ".", "--jobs", "0"), 2, ""),
    ("--memory 0B", ("plan", "--method", "linear", "chat", "math", "--memory", "0B"), 2, ""),
    ("--weight chat=heavy", ("plan", "--method", "linear", "chat", "math", "--weight", "chat=heavy"), 2, ""),
    ("--weight chat=nan", ("plan", "--method", "linear", "chat", "math", "--weight", "chat=nan"), 1, "BadParameter"),
    ("--set t=inf", ("plan", "--method", "slerp", "chat", "math", "--set", "t=inf"), 1, "BadParameter"),
    ("--seed of 30 digits", ("plan", "--method", "linear", "chat", "math", "--seed", "9" * 30), 0, ""),
    ("--dtype float17", ("plan", "--method", "linear", "chat", "math", "--dtype", "float17"), 1, "BadRecipe"),
    ("--device cuda:99", ("plan", "--method", "linear", "chat", "math", "--device", "cuda:99"), 1, "UnknownDevice"),
    ("--value nan", ("score", "add", "chat", "--task", "t", "--metric", "m", "--value", "nan"), 1, "BadParameter"),
    ("--n of 20 digits", ("score", "add", "chat", "--task", "t", "--metric", "m", "--value", "1", "--n", "9" * 20), 2, ""),
    ("--task that is not UTF-8", ("score", "add", "chat", "--task", "t\udcff", "--metric", "m", "--value", "1"), 0, ""),
    ("--limit of 30 digits", ("candidates", "chat", "--limit", "9" * 30), 0, ""),
    ("--depth of 30 digits", ("lineage", "chat", "--depth", "9" * 30), 0, ""),
    ("--where that is no SQL", ("ls", "--where", "("), 1, "BadSql"),
    ("--where that reads a file", ("ls", "--where", "(select true from read_text('/etc/passwd'))"), 1, "SqlRefused"),
    ("--sort with a second statement", ("ls", "--sort", "name; drop view models"), 1, "SqlRefused"),
    *((f"SQL: {query}", ("sql", query), 1, "SqlRefused") for query in _SQL),
    ("SQL that reads the environment", ("sql", "select getenv('HOME')"), 1, "BadSql"),
    ("SQL that is not UTF-8", ("sql", "select '\udcff'"), 1, "BadSql"),
    ("--where that is not UTF-8", ("ls", "--where", "name = '\udcff'"), 1, "BadSql"),
    ("--task that is not UTF-8, of candidates", ("candidates", "chat", "--task", "\udcff"), 0, ""),
    ("--parquet whose name is not UTF-8", ("sql", "from models", "--parquet", "\udcff"), 1, "RunFailed"),
    ("SQL that is empty", ("sql", ""), 1, "BadSql"),
    ("SQL of 2,000 brackets", ("sql", "select " + "(" * 2_000), 1, "BadSql"),
    ("SQL that divides by words", ("sql", "select 'a'::int"), 1, "BadSql"),
)  # fmt: skip

CASES = [
    *(Bad(RECIPES, what, error, _file("recipe.yaml", text), ("plan", "recipe.yaml"), int(bool(error))) for what, (error, text) in _RECIPES.items()),
    *(Bad(LISTS, what, error, _file("list", raw), ("import", "list")) for what, (error, raw) in _LISTS.items()),
    *(Bad(RESULTS, what, error, _file("r.json", raw), ("score", "import", "r.json")) for what, (error, raw) in _RESULTS.items()),
    *(Bad(RESULTS, what, error, _file("s.jsonl", raw), ("score", "run", "chat", "s.jsonl")) for what, (error, raw) in _SUITES.items()),
    *(Bad(ADDRESSES, f"a pipe in the place of a file: {what}", error, lambda folder, name=name: os.mkfifo(folder / name), words) for what, name, words, error in _PIPES),
    *(Bad(ADDRESSES, what, error, nothing, words, int(words != ("scan", "/dev/zero"))) for what, words, error in _ADDRESSES),
    *(Bad(WORDS, what, error, nothing, words, code) for what, words, code, error in _WORDS),
]  # fmt: skip
