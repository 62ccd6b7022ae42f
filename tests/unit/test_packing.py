"""Packed bodies are unpacked within their bounds, whoever sends them; see also the intake's and the provider's."""

from __future__ import annotations

import gzip

import pytest

from shared.core.packing import PackingError, unpack


def test_a_body_of_many_parts_is_one_and_of_too_many_none() -> None:
    assert unpack(gzip.compress(b"ab") * 100, 200, may_be_bare=False) == b"ab" * 100
    with pytest.raises(PackingError, match="too many parts"):
        unpack(gzip.compress(b"") * 101, 200, may_be_bare=False)


def test_no_part_takes_the_whole_over_its_limit() -> None:
    with pytest.raises(PackingError) as caught:
        unpack(gzip.compress(b"a" * 150) * 2, 299, may_be_bare=False)
    assert caught.value.is_too_long
    assert len(unpack(gzip.compress(b"a" * 150) * 2, 300, may_be_bare=False)) == 300
