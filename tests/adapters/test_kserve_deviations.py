"""The published list of deviations from KServe's own server is the table, and each row is shown."""

import ast

import pytest
from deviations import DEVIATIONS, HERE, PAGE, on_page, table
from golden_files import read


def test_the_page_shows_the_table() -> None:
    shown = on_page(PAGE.read_text(encoding="utf-8"))
    assert shown == table(), "make deviations writes it"


@pytest.mark.parametrize(
    "shown", sorted({shown for deviation in DEVIATIONS for shown in deviation.shown})
)
def test_every_row_is_shown_by_what_it_names(shown: str) -> None:
    path, _, function = shown.partition("::")
    if function:
        tree = ast.parse((HERE / path).read_text(encoding="utf-8"))
        assert function in {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
    else:
        name, _, title = shown.partition(": ")
        assert title in {str(exchange) for exchange in read(name)}
