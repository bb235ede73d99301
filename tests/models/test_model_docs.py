"""The tables of the page on models are those that the models give now."""

import runpy
from pathlib import Path

DOCS = Path(__file__).parents[2] / "docs"


def test_tables_are_up_to_date():
    script = runpy.run_path(str(DOCS / "models_tables.py"))
    assert (DOCS / "models_tables.inc").read_text(encoding="utf-8") == script["render"](), (
        "run: python docs/models_tables.py"
    )


def test_page_includes_every_table():
    script, page = runpy.run_path(str(DOCS / "models_tables.py")), (DOCS / "models.rst").read_text(encoding="utf-8")
    for label in script["sections"]():
        assert f".. begin {label}\n" in page
