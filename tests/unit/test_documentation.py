"""What is public is documented, and what is documented is there; the error tables are total."""

import ast
import importlib
import re
from importlib.metadata import entry_points
from pathlib import Path

import omi_grpc.errors
import omi_kserve.errors
import omi_modzy.errors
import pytest

import omi_runtime
from omi_runtime import environment
from omi_runtime.adapter import GROUP
from omi_runtime.environment import Setting
from omi_runtime.errors import ErrorCode
from omi_runtime.settings import Settings

ROOT = Path(__file__).parents[2]
REFERENCE = ROOT / "docs" / "reference"
ADAPTERS = ["omi_grpc", "omi_kserve", "omi_modzy"]
PACKAGES = ["omi_runtime", *(f"adapters/{name}" for name in ADAPTERS)]


def tables(page: str) -> list[list[list[str]]]:
    """The tables of a page: rows of cells, without the row of dashes."""
    found: list[list[list[str]]] = [[]]
    for line in (REFERENCE / page).read_text(encoding="utf-8").splitlines():
        if not line.startswith("|"):
            found.append([])
        elif not re.fullmatch(r"[|\s:-]+", line):
            found[-1].append([cell.strip() for cell in line.strip().strip("|").split("|")])
    return [table for table in found if table]


def rows(page: str, heading: str) -> dict[str, list[str]]:
    """The other cells by the first, of all the tables of a page that have this first heading."""
    return {
        row[0].strip("`"): row[1:]
        for table in tables(page)
        if table[0][0] == heading
        for row in table[1:]
    }


# --- settings ---


def all_settings() -> dict[str, Setting]:
    adapters = [point.load() for point in entry_points(group=GROUP)]
    groups = {Settings, *(a.settings_group for a in adapters if a.settings_group is not None)}
    return {s.variable: s for group in groups for s in environment.declared(group).values()}


@pytest.mark.parametrize("variable", sorted(all_settings()))
def test_every_setting_is_documented_with_its_default(variable: str) -> None:
    documented = rows("settings.md", "variable")
    assert variable in documented, f"docs/reference/settings.md has no row for {variable}"
    default, meaning = documented[variable][:2]
    assert default.strip("`") == all_settings()[variable].default_text
    assert meaning


def test_no_setting_is_documented_that_is_not_there() -> None:
    assert set(rows("settings.md", "variable")) <= set(all_settings())


# --- errors ---


@pytest.mark.parametrize("code", ErrorCode)
def test_every_error_code_is_documented(code: ErrorCode) -> None:
    documented = rows("errors.md", "code")
    assert code in documented, f"docs/reference/errors.md has no row for {code}"
    assert all(documented[code])


def test_no_error_code_is_documented_that_is_not_there() -> None:
    assert set(rows("errors.md", "code")) <= set(ErrorCode)
    assert set(rows("errors.md", "ErrorCode")) <= set(ErrorCode)


ARCHITECTURE = {
    "INVALID_REQUEST": (400, "INVALID_ARGUMENT", 400, 400),
    "UNSUPPORTED_MEDIA_TYPE": (415, "INVALID_ARGUMENT", 200, 415),
    "INVALID_INPUT": (400, "INVALID_ARGUMENT", 200, 422),
    "MODEL_NOT_FOUND": (404, "NOT_FOUND", 200, 404),
    "MODEL_NOT_READY": (503, "UNAVAILABLE", 200, 500),
    "NOT_OFFERED": (501, "UNIMPLEMENTED", 200, 501),
    "TOO_LARGE": (413, "RESOURCE_EXHAUSTED", 413, 413),
    "OVERLOADED": (503, "RESOURCE_EXHAUSTED", 503, 503),
    "DEADLINE_EXCEEDED": (504, "DEADLINE_EXCEEDED", 504, 504),
    "INFERENCE_FAILED": (500, "INTERNAL", 200, 500),
    "INTERNAL": (500, "INTERNAL", 500, 500),
}
"""Section 7: KServe's status, the gRPC status, OMI's RunResponse, Modzy's status.

200 in a RunResponse says that the failed items tell it themselves. Modzy and OMI have a dash for
MODEL_NOT_FOUND and a null field for NOT_OFFERED: what stands here is for where nothing else can.
"""


def test_the_table_here_has_every_code() -> None:
    assert set(ARCHITECTURE) == set(ErrorCode)


@pytest.mark.parametrize(
    "table",
    [
        omi_grpc.errors.TABLE,
        omi_kserve.errors.TABLE,
        omi_kserve.errors.GRPC_TABLE,
        omi_modzy.errors.TABLE,
    ],
    ids=["omi_grpc", "omi_kserve", "omi_kserve over gRPC", "omi_modzy"],
)
def test_every_adapters_error_table_is_total(table: dict[ErrorCode, object]) -> None:
    assert set(table) == set(ErrorCode)


@pytest.mark.parametrize("code", ErrorCode)
def test_every_adapter_tells_an_error_as_the_architecture_says(code: ErrorCode) -> None:
    kserve, grpc_status, run_response, modzy = ARCHITECTURE[code]
    assert omi_kserve.errors.TABLE[code] == kserve
    assert omi_kserve.errors.GRPC_TABLE[code] == grpc_status
    assert omi_grpc.errors.TABLE[code].grpc_status.name == grpc_status
    assert omi_grpc.errors.TABLE[code].run_status == run_response
    assert omi_modzy.errors.TABLE[code] == modzy


@pytest.mark.parametrize("code", ErrorCode)
def test_the_documented_table_is_the_adapters(code: ErrorCode) -> None:
    kserve, grpc_status, omi, modzy = rows("errors.md", "ErrorCode")[code]
    wire = omi_grpc.errors.TABLE[code]
    assert re.findall(r"\d{3}", kserve) == [str(omi_kserve.errors.TABLE[code])]
    assert grpc_status == wire.grpc_status.name
    assert re.findall(r"\d{3}", omi) in ([], [str(wire.run_status)])
    assert re.findall(r"\d{3}", modzy) in ([], [str(omi_modzy.errors.TABLE[code])])
    assert wire.run_status == 200 or re.search(rf"{wire.run_status}|RESOURCE_EXHAUSTED", omi)


# --- the tree and its decisions ---


def test_every_decision_is_in_the_index_and_in_the_navigation_in_order() -> None:
    decisions = ROOT / "docs" / "decisions"
    records = sorted(path.name for path in decisions.glob("[0-9]*.md"))
    index = (decisions / "README.md").read_text(encoding="utf-8")
    assert re.findall(r"^\| \[\d{4}\]\((.+?)\)", index, re.MULTILINE) == records
    navigation = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    assert re.findall(r"decisions/(\d{4}-.+\.md)", navigation) == records


def test_the_map_for_contributors_names_modules_that_are_there() -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    table = text.split("| subject | modules of `omi_runtime/` |")[1].split("\n\n")[0]
    named = set(re.findall(r"`(\w+)`", table)) - {"current_request"}
    assert len(named) > 40
    assert named <= {path.stem for path in (ROOT / "omi_runtime").glob("*.py")}


# --- public names ---


def test_all_is_sorted_and_is_what_is_exported() -> None:
    """Whether imported at once or when first used: the names stand in the module's imports."""
    tree = ast.parse(Path(omi_runtime.__file__).read_text(encoding="utf-8"))
    exported = {
        alias.name: node.module
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("omi_runtime.")
        for alias in node.names
    }
    assert omi_runtime.__all__ == sorted([*exported, "__version__"])
    for name, module in exported.items():
        assert getattr(omi_runtime, name) is getattr(importlib.import_module(module), name)
    with pytest.raises(AttributeError):
        _ = omi_runtime.Nothing


@pytest.mark.parametrize("name", omi_runtime.__all__)
def test_every_public_name_is_documented(name: str) -> None:
    documented = rows("api.md", "name")
    assert name in documented, f"docs/reference/api.md has no row for {name}"
    assert all(documented[name])
    assert name == "__version__" or getattr(omi_runtime, name).__doc__


def test_no_public_name_is_documented_that_is_not_there() -> None:
    assert set(rows("api.md", "name")) <= set(omi_runtime.__all__)


# --- docstrings, which the linter leaves to this test ---


@pytest.mark.parametrize(
    "module",
    sorted(
        str(path.relative_to(ROOT))
        for package in PACKAGES
        for path in (ROOT / package).rglob("*.py")
        if not path.name.endswith("_pb2.py")
    ),
)
def test_every_module_says_what_it_is(module: str) -> None:
    docstring = ast.get_docstring(ast.parse((ROOT / module).read_text(encoding="utf-8")))
    assert docstring, f"{module} has no docstring"
