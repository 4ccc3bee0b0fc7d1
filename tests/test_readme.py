"""The README's tables are those of the code. ETIO_BLESS=1 writes them anew."""

import os
import re
from pathlib import Path

import pytest

from etio.daemon.tables import TABLES

README = Path(__file__).parent.parent / "README.md"


def block(name: str) -> re.Pattern[str]:
    return re.compile(rf"(<!-- {name} -->\n)(.*?)(<!-- /{name} -->)", re.S)


@pytest.mark.parametrize("name", TABLES)
def test_table_matches_the_code(name: str) -> None:
    text = README.read_text()
    made = TABLES[name]() + "\n"
    found = block(name).search(text)
    assert found, f"README.md has no table {name}"
    if os.environ.get("ETIO_BLESS"):
        README.write_text(text[: found.start(2)] + made + text[found.end(2) :])
        return
    assert found[2] == made, "run the test once with ETIO_BLESS=1 and read the diff"


def test_readme_names_the_two_commands_that_exist() -> None:
    text = README.read_text()
    for script in ("scripts/run", "scripts/test"):
        assert script in text
        assert os.access(README.parent / script, os.X_OK)
