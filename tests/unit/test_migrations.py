"""What every file of migrations must say, without a database."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from shared.database.store import NEWEST_MIGRATION

FILES = sorted((Path(__file__).parents[2] / "supabase" / "migrations").glob("*.sql"))
RECORDS = re.compile(
    r"^insert into public\.recovery_migrations \(version\) values \('(\d+)'\) on conflict do nothing;$", re.MULTILINE
)


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_each_file_records_itself_whoever_applies_it(file: Path) -> None:
    assert RECORDS.findall(file.read_text("utf-8")) == [file.name.partition("_")[0]]


def test_a_function_that_is_asked_whether_it_is_ready_knows_the_newest_file() -> None:
    assert FILES[-1].name.partition("_")[0] == NEWEST_MIGRATION
