import pytest

from benchmarks import tables


@pytest.mark.parametrize("name", tables.tables())
def test_the_documentation_shows_the_committed_results(name):
    shown = (tables.DOCS / f"{name}.inc").read_text(encoding="utf-8")
    assert shown == tables.rst(name, tables.tables()[name])


def test_every_table_is_on_the_page():
    page = (tables.DOCS / "performance.rst").read_text(encoding="utf-8")
    missing = [name for name in tables.tables() if f".. include:: {name}.inc" not in page]
    assert missing == []
