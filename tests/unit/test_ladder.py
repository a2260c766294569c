"""What may import what, and who may do what, read off the source."""

import ast
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent

#: Who may import which library; a pattern that ends in * stands for every name that so begins.
LIBRARIES = {
    "huey": ("huey_config", "flood.tasks", "flood.queue_*"),
    "boto3": ("workers.s3*", "workers.classify*"),
    "botocore": ("workers.s3*", "workers.classify*"),
    "pycurl": ("workers.curl*",),
    "inotify_simple": ("flood.watcher", "flood.bell"),
    "peewee": ("flood.models",),
    "playhouse": ("flood.schema",),
    "sqlite3": ("flood.models", "flood.sqlite", "flood.queue_storage"),
    "ctypes": ("flood.syscalls",),
    "apprise": ("flood.services",),
}

#: What only flood.spool does to files.
MOVING = ("rename", "renames", "replace", "link", "symlink", "unlink", "remove", "rmdir", "fsync")


def _sources() -> Iterator[tuple[str, ast.Module]]:
    paths = [*ROOT.glob("flood/**/*.py"), *ROOT.glob("workers/**/*.py"), ROOT / "huey_config.py"]
    for path in paths:
        parts = path.relative_to(ROOT).with_suffix("").parts
        if parts[-1][0].isdigit():
            continue  # a migration, which no program imports
        name = ".".join(parts).removesuffix(".__init__")
        yield name, ast.parse(path.read_text("utf-8"), str(path))


MODULES = dict(_sources())


def imports(tree: ast.AST) -> set[str]:
    """Every module that is imported anywhere in this tree."""
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            for alias in node.names:
                full = f"{node.module}.{alias.name}"
                found.add(full if full in MODULES else str(node.module))
    return found


def matches(name: str, pattern: str) -> bool:
    return name.startswith(pattern[:-1]) if pattern.endswith("*") else name == pattern


def without_functions(tree: ast.Module) -> ast.Module:
    """What runs as the module is imported; that excludes what only type checkers see."""

    class Outside(ast.NodeTransformer):
        def visit_FunctionDef(self, _node: ast.FunctionDef) -> None:
            return None

        visit_AsyncFunctionDef = visit_Lambda = visit_FunctionDef  # type: ignore[assignment]  # noqa: N815  their names

        def visit_If(self, node: ast.If) -> ast.AST | None:
            return None if ast.unparse(node.test) == "TYPE_CHECKING" else self.generic_visit(node)

    copy = ast.parse(ast.unparse(tree))
    visited = Outside().visit(copy)
    assert isinstance(visited, ast.Module)
    return visited


@pytest.mark.parametrize("library", LIBRARIES)
def test_a_library_has_its_place(library: str) -> None:
    users = {
        name
        for name, tree in MODULES.items()
        if any(other.partition(".")[0] == library for other in imports(tree))
    }
    wrong = [
        name for name in users if not any(matches(name, pattern) for pattern in LIBRARIES[library])
    ]
    assert wrong == []


def test_the_spool_does_not_know_who_delivers() -> None:
    """Without workers/ the watcher with the commands still works."""
    for name, tree in MODULES.items():
        used = {other for other in imports(tree) if other.partition(".")[0] == "workers"}
        if name in ("flood.tasks", "flood.commands.check"):
            assert used
            at_import = imports(without_functions(tree))
            assert not any(other.partition(".")[0] == "workers" for other in at_import)
        elif not name.startswith("workers"):
            assert used == set(), name


def test_who_delivers_does_not_know_the_tasks() -> None:
    for name, tree in MODULES.items():
        if name.startswith("workers"):
            assert not imports(tree) & {"flood.tasks", "huey_config"}, name


def test_only_the_spool_moves_files() -> None:
    for name, tree in MODULES.items():
        if name == "flood.spool":
            continue
        for node in ast.walk(tree):
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
                assert (node.value.id, node.attr) not in {("os", call) for call in MOVING}, name
                assert node.value.id != "shutil", name
                if node.attr == "rename_noreplace":
                    raise AssertionError(name)
            elif isinstance(node, ast.ImportFrom) and node.module in ("os", "flood.syscalls"):
                imported = {alias.name for alias in node.names}
                assert not imported & {*MOVING, "rename_noreplace"}, name


@pytest.mark.parametrize("name", MODULES)
def test_a_docstring_is_one_sentence(name: str) -> None:
    docstring = ast.get_docstring(MODULES[name])
    assert docstring, name
    sentence = docstring.partition("\n\n")[0]
    assert " and " not in sentence
    assert sentence.endswith(".")
    assert ". " not in sentence
    if name not in ("flood.errors", "workers.failures"):  # these draw their tree of classes
        assert docstring == sentence


@pytest.mark.parametrize("name", MODULES)
def test_records_change_state_in_one_module(name: str) -> None:
    if name == "flood.records":
        return
    for node in ast.walk(MODULES[name]):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            text = " ".join(node.value.split())
            assert "SET current_state" not in text, name
            assert not text.startswith("INSERT INTO file_records"), name


WATCH_IMPORTS = """
import importlib, json, os, sys, threading
did = []
def hook(event, arguments):
    if event == "open" and str(arguments[0]).endswith((".py", ".pyc")):
        return
    if event in ("open", "sqlite3.connect", "socket.connect", "subprocess.Popen", "os.fork",
                 "_thread.start_new_thread", "os.mkdir", "os.remove", "os.rename"):
        did.append(f"{event} {arguments[0] if arguments else ''}")
sys.addaudithook(hook)
before = set(os.listdir("/proc/self/fd"))
found = {}
for name in sys.argv[1:]:
    importlib.import_module(name)
    left = set(os.listdir("/proc/self/fd")) - before
    left = [n for n in left if os.path.exists(f"/proc/self/fd/{n}")]
    if did or left or threading.active_count() > 1:
        found[name] = [*did, *left, *map(str, threading.enumerate()[1:])]
    did.clear()
print(json.dumps(found))
"""


def in_python(code: str, *arguments: str) -> str:
    return subprocess.run(
        [sys.executable, "-B", "-W", "error", "-c", code, *arguments],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    ).stdout


def test_importing_does_nothing() -> None:
    """No file is opened, no connection, no thread."""
    assert json.loads(in_python(WATCH_IMPORTS, *sorted(MODULES))) == {}


@pytest.mark.parametrize(
    ("name", "without"),
    [
        ("flood.tasks", ("boto3", "botocore", "workers")),
        ("flood.commands.watch", ("boto3", "botocore", "workers", "rich")),
        ("flood.commands.drain", ("boto3", "botocore", "workers", "rich")),
        ("flood.commands.fsck", ("boto3", "botocore", "workers", "rich")),
        ("flood.commands.check", ("boto3", "botocore", "workers", "rich", "huey")),
        ("flood.commands.init", ("boto3", "botocore", "workers", "rich")),
        ("flood.commands.put", ("boto3", "botocore", "workers", "huey")),
        ("flood.commands.status", ("boto3", "botocore", "workers", "huey", "rich")),
        ("flood.commands.retry", ("boto3", "botocore", "workers", "rich")),
        ("flood.commands.prune", ("boto3", "botocore", "workers", "rich", "huey")),
        ("flood.commands.notify", ("boto3", "botocore", "workers", "rich", "huey", "apprise")),
    ],
)
def test_what_is_slow_to_import_is_not_imported(name: str, without: tuple[str, ...]) -> None:
    loaded = in_python(f"import sys, {name}; print(*sys.modules)").split()
    assert [library for library in without if library in loaded] == []


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("import a.b\nfrom c import d", {"a.b", "c"}),
        ("def f():\n    from workers import upload", {"workers.upload"}),
        ("from flood import models as m, nothing", {"flood.models", "flood"}),
    ],
)
def test_imports_are_read_right(source: str, found: set[str]) -> None:
    assert imports(ast.parse(source)) == found
    assert imports(without_functions(ast.parse("def f():\n    import a\nimport b"))) == {"b"}
