"""Groups: every plane exactly once, whatever varies."""

from hypothesis import given, settings
from hypothesis import strategies as st

from hcsflow.plan import Group, PlaneSet, agreeing, groups_of
from hcsflow.plate import COMPONENTS


@st.composite
def plane_sets(draw):
    channels = tuple(range(draw(st.integers(1, 4))))
    return PlaneSet(
        fields=tuple(range(draw(st.integers(1, 4)))),
        timepoints=tuple(range(draw(st.integers(1, 3)))),
        channels=channels,
        z=tuple(tuple(range(draw(st.integers(1, 5)))) for _ in channels),
        shape_yx=(4, 4),
        dtype="uint16",
    )


varying = st.lists(st.sampled_from(COMPONENTS), min_size=1, max_size=4, unique=True).map(tuple)


@given(plane_sets(), varying)
@settings(max_examples=80, deadline=None)
def test_each_plane_is_in_exactly_one_group(planes, components):
    groups = list(groups_of(planes, components))
    members = [key for group in groups for key in group.members]
    assert sorted(members) == sorted(planes.iter_keys())
    assert len(members) == planes.num_planes
    for group in groups:
        for component, value in group.fixed:
            assert {getattr(key, component) for key in group.members} == {value}
        order = [tuple(getattr(k, c) for c in components) for k in group.members]
        assert order == sorted(order)


@given(plane_sets(), varying)
@settings(max_examples=40, deadline=None)
def test_a_group_agrees_with_itself_and_with_nothing_elsewhere(planes, components):
    groups = list(groups_of(planes, components))
    for group in groups[:3]:
        assert agreeing(group, groups, ()) == [group]


def test_a_collapsed_component_does_not_tell_groups_apart():
    planes = PlaneSet((0,), (0,), (0, 1), ((0, 1), (0, 1)), (4, 4), "uint16")
    consumer = next(iter(groups_of(planes, ("channel", "z"))))
    producer = Group((("field", 0), ("timepoint", 0), ("channel", 0), ("z", 7)), ())
    assert agreeing(consumer, [producer], ()) == []
    assert agreeing(consumer, [producer], ("z",)) == [producer]
