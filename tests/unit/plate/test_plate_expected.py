"""What is expected, absent, missing; and which keys repeat."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from hcsflow.plate.expected import Expectation, repeated_rows

HEIGHTS = st.lists(
    st.sets(st.integers(0, 3), min_size=1).map(lambda zs: tuple(sorted(zs))), min_size=1, max_size=3
).map(tuple)


@given(data=st.data(), heights=HEIGHTS)
def test_missing_is_expected_less_present(data, heights):
    expected = Expectation(wells=2, fields=2, timepoints=2, heights=heights, z=4)
    every = {
        (w, f, t, c, z)
        for w in range(2)
        for f in range(2)
        for t in range(2)
        for c, own in enumerate(heights)
        for z in own
    }
    present = data.draw(st.sets(st.sampled_from(sorted(every))))
    keys = np.array(sorted(present), np.int32).reshape(-1, 5)
    missing = [tuple(row) for row in expected.missing(keys).tolist()]
    assert missing == sorted(every - present)
    assert expected.planes_per_well * 2 == len(every)
    assert expected.absent == 2 * 2 * 2 * len(heights) * 4 - len(every)


@given(values=st.lists(st.tuples(st.integers(0, 2), st.integers(0, 2)), max_size=20))
def test_each_repeat_is_paired_with_the_first_of_its_kind(values):
    pairs = repeated_rows(np.array(values, np.int32).reshape(-1, 2))
    first = {}
    expected = set()
    for row, value in enumerate(values):
        if value in first:
            expected.add((first[value], row))
        first.setdefault(value, row)
    assert set(pairs) == expected
    assert len(pairs) == len(expected)
