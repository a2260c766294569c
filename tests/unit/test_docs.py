"""What the documentation says of the program is complete, and holds nothing that is gone."""

import ast
import configparser
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest
from peewee import SqliteDatabase
from playhouse.migrations import Runner

from flood import __version__, layout, states
from flood.options import IGNORE, OPTIONS
from flood.providers import PROVIDERS
from flood.states import COMPLETED, STATES
from tests.bench.command_line import build_parser
from tests.bench.peers import PEERS
from tests.bench.results import Result
from tests.bench.workloads import WORKLOADS
from workers.classify import TABLE

ROOT = Path(__file__).resolve().parents[2]
DOCS = sorted((ROOT / "docs").glob("*.md"))
PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", *DOCS]
SOURCES = sorted(
    path
    for path in (*ROOT.glob("flood/**/*.py"), *ROOT.glob("workers/*.py"), ROOT / "huey_config.py")
    if not path.name[0].isdigit()  # a step of the schema, no module
)


@cache
def page(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def section(text: str, heading: str) -> str:
    """What stands below a heading, up to the next one of the same or a higher level."""
    match = re.search(rf"^(#+) {re.escape(heading)}$", text, re.MULTILINE)
    assert match, f"there is no heading {heading!r}"
    rest = text[match.end() :]
    end = re.search(rf"^#{{1,{len(match[1])}}} ", rest, re.MULTILINE)
    return rest[: end.start()] if end else rest


def rows(text: str) -> Iterator[list[str]]:
    """The rows of every table, as cells without the blanks around them."""
    for line in text.splitlines():
        if line.startswith("|") and not set(line) <= set("|-: "):
            yield [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]


def first_cells(text: str) -> set[str]:
    """Everything in backticks in the first cells of the tables."""
    return {token for row in rows(text) for token in quoted(row[0])}


def quoted(text: str) -> list[str]:
    return re.findall(r"`([^`]+)`", text)


def commands() -> dict[str, str]:
    """Each console script of setup.cfg with the module and the function that it runs."""
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg", encoding="utf-8")
    lines = setup["options.entry_points"]["console_scripts"].split("\n")
    pairs = (line.split("=") for line in lines if line.strip())
    return {name.strip(): target.strip() for name, target in pairs}


@cache
def help_of(command: str, columns: int = 80) -> str:
    return said_by(command, "--help", COLUMNS=str(columns))


def said_by(command: str, *arguments: str, **environ: str) -> str:
    module, _, function = commands()[command].partition(":")
    script = f"import sys; from {module} import {function}; sys.exit({function}())"
    return subprocess.run(
        [sys.executable, "-c", script, *arguments],
        cwd=ROOT,
        env={**os.environ, **environ},
        capture_output=True,
        text=True,
        check=True,
    ).stdout


def flags_of(command: str) -> set[str]:
    shown = help_of(command).splitlines()
    options = [line.strip() for line in shown if line.startswith("  -")]
    return {
        flag
        for line in options
        for flag in re.findall(r"(?<![\w-])--?[a-z][a-z-]*", re.split(r"\s{2,}", line)[0])
    }


# --- settings and commands -----------------------------------------------------------------------


def test_each_setting_has_its_row() -> None:
    table = {
        row[0].strip("`"): row for row in rows(section(page("docs/configuration.md"), "Settings"))
    }
    for option in OPTIONS.values():
        row = table[option.flag]
        assert row[1] == f"`{option.variable}`"
        assert row[2] == (f"`{option.key}`" if option.in_files else "-")
        assert (option.unset if option.default is None else option.default) in row[3]


def test_the_settings_have_no_row_too_many() -> None:
    table = first_cells(section(page("docs/configuration.md"), "Settings"))
    assert table == {option.flag for option in OPTIONS.values()}


@pytest.mark.parametrize("command", commands())
def test_each_command_says_of_which_flood_it_is(command: str) -> None:
    """Also where nothing is set up, or the settings are wrong: who reports a fault is asked."""
    assert said_by(command, "--version", FLOOD_CONFIG="/none") == f"{command} {__version__}\n"


@pytest.mark.parametrize("command", commands())
def test_each_flag_of_a_command_is_documented(command: str) -> None:
    flags = flags_of(command)
    assert "--help" in flags
    own = first_cells(section(page("docs/commands.md"), command))
    shared = set(quoted(section(page("docs/configuration.md"), "Settings")))
    assert flags <= own | shared


@pytest.mark.parametrize("command", commands())
def test_help_fits_into_a_terminal(command: str) -> None:
    """One column stays free: a line that fills the last one is wrapped by some terminals."""
    assert [line for line in help_of(command).splitlines() if len(line) > 79] == []


def test_help_uses_a_wide_terminal_but_not_all_of_it() -> None:
    assert 80 < max(map(len, help_of("flood-put", 1000).splitlines())) <= 100


@pytest.mark.parametrize("command", commands())
def test_no_flag_is_documented_that_a_command_lacks(command: str) -> None:
    own = first_cells(section(page("docs/commands.md"), command))
    assert {token for token in own if token.startswith("-")} <= flags_of(command)


def test_each_option_and_workload_of_the_benchmark_is_documented() -> None:
    text = page("docs/performance.md")
    options = {option for action in build_parser()._actions for option in action.option_strings}
    assert first_cells(section(text, "Running it")) == options - {"-h"}
    assert first_cells(section(text, "Workloads")) == set(WORKLOADS)
    columns = set(Result(WORKLOADS["w1"]).values()) | {"flood is"}
    assert first_cells(section(text, "Columns")) == columns
    assert set(PEERS) <= set(quoted(section(text, "Running it")))


def test_each_command_is_in_the_readme() -> None:
    assert set(commands()) | {"huey_consumer flood.tasks.huey"} == first_cells(
        section(page("README.md"), "Commands")
    )


def test_each_provider_has_its_row() -> None:
    table = first_cells(section(page("docs/configuration.md"), "The credentials file"))
    assert set(PROVIDERS) <= table


def test_each_pattern_that_is_left_alone_has_its_row() -> None:
    table = first_cells(section(page("docs/configuration.md"), "Files that are left alone"))
    assert table == set(IGNORE)


def test_each_exit_status_has_its_row() -> None:
    known = {str(value) for name, value in vars(states).items() if name.startswith("EXIT_")}
    for text in (
        section(page("docs/configuration.md"), "Exit statuses"),
        section(page("README.md"), "Commands"),
    ):
        assert {row[0] for row in rows(text) if row[0].isdigit()} == known


# --- states and tables ---------------------------------------------------------------------------


def test_each_state_is_in_the_readme() -> None:
    assert first_cells(section(page("README.md"), "Where files go")) == set(states.STATES)


def test_each_situation_that_the_code_names_has_its_row() -> None:
    table = [row[0] for row in rows(section(page("docs/architecture.md"), "States"))][1:]
    assert table == [f"S{number}" for number in range(13)]
    named = {
        name for path in SOURCES for name in re.findall(r"\bS\d{1,2}\b", path.read_text("utf-8"))
    }
    assert {"S3", "S7", "S11"} <= named
    assert named <= set(table)


@pytest.fixture(scope="module")
def schema(tmp_path_factory: pytest.TempPathFactory) -> dict[str, set[str]]:
    """The columns of each table of a new database."""
    database = SqliteDatabase(str(tmp_path_factory.mktemp("schema") / "flood.db"))
    Runner(database, str(ROOT / "flood" / "migrations")).up()
    found = {
        table: {column.name for column in database.get_columns(table)}
        for table in database.get_tables()
        if table not in ("schema_migration", "sqlite_sequence")
    }
    database.close()
    return found


def test_each_table_is_explained(schema: dict[str, set[str]]) -> None:
    text = section(page("docs/architecture.md"), "Tables")
    headings = set(re.findall(r"^### (\w+)$", text, re.MULTILINE)) - {"Others"}
    assert headings == set(schema)


def test_each_column_is_explained(schema: dict[str, set[str]]) -> None:
    kinds = {states.TRANSIENT, states.PERMANENT, states.LOST, states.INTERRUPTED}
    for table, columns in schema.items():
        assert first_cells(section(page("docs/architecture.md"), table)) - kinds == columns, table


def test_each_kind_of_attempt_is_explained() -> None:
    kinds = {states.TRANSIENT, states.PERMANENT, states.LOST, states.INTERRUPTED}
    attempts = first_cells(section(page("docs/architecture.md"), "retry_attempts"))
    assert kinds <= attempts
    before, _, _ = page("docs/errors.md").partition("\n## ")
    assert first_cells(before) == kinds


# --- error codes ---------------------------------------------------------------------------------


def documented_codes() -> dict[str, str]:
    """Each code in docs/errors.md with its kind."""
    _, _, tables = page("docs/errors.md").partition("\n## ")
    found: dict[str, str] = {}
    for row in rows(tables):
        for code in quoted(row[0]):
            assert code not in found, f"{code} has two rows"
            found[code] = row[1]
    return found


def table_codes() -> dict[str, set[str]]:
    """Each code that the error table can give, with its kinds."""
    found: dict[str, set[str]] = {}
    for rule in TABLE:
        # A code of digits alone is the answer's status: it is recorded as http_NNN.
        codes = [rule.code] if rule.code else [code for code in rule.codes if not code.isdecimal()]
        for code in codes:
            found.setdefault(code, set()).add(rule.kind)
    return found


def reason_codes() -> set[str]:
    """Each code that is written into a Reason or a Verdict, or that a key's check gives."""
    found = set()
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
                arguments = [arg.value for arg in node.args if isinstance(arg, ast.Constant)]
                if node.func.id in ("Reason", "Verdict") and len(node.args) > 1 and arguments:
                    found.add(str(arguments[0]))
    for key in ("\udcff", "x" * 2000, "e\u0301"):
        problem = layout.key_problem(key, normalizes=True)
        assert problem is not None
        found.add(problem[0])
    return found


def test_each_error_code_is_documented_with_its_kind() -> None:
    documented = documented_codes()
    for code, kinds in table_codes().items():
        assert documented.get(code) in kinds, code
        assert len(kinds) == 1, code


def test_each_reason_is_documented() -> None:
    reasons = reason_codes()
    assert {"vanished", "abandoned", "worker_died", "given_up", "cannot_move"} <= reasons
    assert reasons <= set(documented_codes())


def test_no_error_code_is_documented_that_nothing_gives() -> None:
    assert set(documented_codes()) <= set(table_codes()) | reason_codes()


# --- the house -----------------------------------------------------------------------------------


def module_name(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def imports(path: Path) -> set[str]:
    """What a module imports of the project's own, wherever in it."""
    own = {module_name(each) for each in SOURCES}
    found = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            below = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= below if below & own else {node.module}
    return found & own - {"flood", "workers", "flood.commands"}


def house() -> list[str]:
    """The modules in the order of the table."""
    return [
        token
        for row in rows(section(page("docs/architecture.md"), "The house"))
        for token in quoted(row[0])
    ]


def shell_lines(page_name: str, heading: str) -> list[str]:
    return re.findall(r"^    (\w.*)$", section(page(page_name), heading), re.MULTILINE)


def test_whoever_upgrades_makes_no_database_of_roots() -> None:
    lines = [
        line
        for line in shell_lines("docs/operations.md", "Upgrading, going back")
        if re.search(r"flood\.db|flood-(?!watch)", line)
    ]
    assert len(lines) == 4
    assert all(line.startswith("sudo -u flood ") for line in lines)


def test_who_waits_for_an_empty_spool_does_not_wait_for_failed_files() -> None:
    waits = re.findall(r"flood-status --check --max-waiting 0.*", page("docs/operations.md"))
    assert len(waits) == 2
    assert all("--max-failed" in line for line in waits)


def test_who_deletes_a_spool_lists_first_what_is_in_no_store(tmp_path: Path) -> None:
    [line] = re.findall(r"^ +(find incoming.*)$", page("docs/operations.md"), re.M)
    for state in set(STATES):
        (tmp_path / state / "p/b").mkdir(parents=True)
        (tmp_path / state / "p/b/.env.sample").touch()
    (tmp_path / "incoming/misplaced").touch()
    found = subprocess.run(line.split(), cwd=tmp_path, capture_output=True, text=True, check=True)
    left = {f"{state}/p/b/.env.sample" for state in STATES if state != COMPLETED}
    assert set(found.stdout.splitlines()) == left | {"incoming/misplaced"}


def test_each_module_is_in_the_house() -> None:
    packages = {"flood", "workers", "flood.commands"}
    assert sorted(house()) == sorted({module_name(path) for path in SOURCES} - packages)


def test_each_module_imports_only_what_stands_above_it() -> None:
    order = {name: position for position, name in enumerate(house())}
    wrong = [
        f"{module_name(path)} imports {name}"
        for path in SOURCES
        for name in imports(path)
        if order[name] >= order.get(module_name(path), len(order))
    ]
    assert wrong == []


@cache
def names_in(stem: str) -> frozenset[str]:
    """Whatever a module of this name defines, assigns or has as an attribute."""
    found = set()
    for path in SOURCES:
        if path.stem != stem:
            continue
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.FunctionDef | ast.ClassDef):
                found.add(node.name)
            elif isinstance(node, ast.Name):
                found.add(node.id)
            elif isinstance(node, ast.Attribute):
                found.add(node.attr)
    return frozenset(found)


def test_each_function_that_is_named_exists() -> None:
    stems = {path.stem for path in SOURCES}
    missing = []
    checked = 0
    for token in quoted(page("docs/architecture.md")):
        parts = token.removesuffix("()").split(".")
        if parts[0] in ("flood", "workers"):
            parts = parts[1:]
        if len(parts) < 2 or parts[0] not in stems or not all(map(str.isidentifier, parts)):
            continue
        checked += 1
        if not set(parts[1:]) <= names_in(parts[0]) | stems:
            missing.append(token)
    assert missing == []
    assert checked > 20


# --- the pages -----------------------------------------------------------------------------------


def links(text: str) -> list[str]:
    """The targets of all links that are no addresses, code blocks and code apart."""
    prose = "\n".join(line for line in text.splitlines() if not line.startswith("    "))
    prose = re.sub(r"`[^`]*`", "", prose)
    targets = re.findall(r"\]\(([^)\s]+)\)", prose)
    return [target for target in targets if not re.match(r"[a-z]+:", target)]


def anchors(text: str) -> set[str]:
    """The headings as GitHub makes them anchors."""
    found = set()
    for heading in re.findall(r"^#+ (.+)$", text, re.MULTILINE):
        plain = re.sub(r"[^\w\- ]", "", heading.lower())
        found.add(plain.replace(" ", "-"))
    return found


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_each_link_leads_somewhere(path: Path) -> None:
    for target in links(path.read_text("utf-8")):
        file, _, anchor = target.partition("#")
        other = (path.parent / file) if file else path
        assert other.is_file(), target
        assert not anchor or anchor in anchors(other.read_text("utf-8")), target


def test_each_page_is_linked_from_the_readme() -> None:
    linked = {target.partition("#")[0] for target in links(page("README.md"))}
    assert linked >= {f"docs/{path.name}" for path in DOCS} | {"CHANGELOG.md"}


def test_the_scripts_that_the_readme_names_can_be_run() -> None:
    named = set(re.findall(r"\bscripts/\w+\b", page("README.md")))
    assert named >= {"scripts/demo", "scripts/test"}
    for name in named:
        assert os.access(ROOT / name, os.X_OK), name


def test_the_version_is_in_the_changelog() -> None:
    from flood import __version__

    assert __version__ in page("CHANGELOG.md")
