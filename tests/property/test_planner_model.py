"""The planner against a model that lists every plane and knows no rules."""

from itertools import product

from hypothesis import event, given, settings
from hypothesis import strategies as st

from hcsflow.compiler import compile_plan
from hcsflow.config import GlobalPipelineConfig
from hcsflow.contracts import contract
from hcsflow.errors import HcsflowError
from hcsflow.pipeline import DROP, PASS, FunctionStep, Pipeline
from hcsflow.plan import LocalKey, Resources, groups_of, output_members
from hcsflow.plate import (
    COMPONENTS,
    Channel,
    FieldGrid,
    Manifest,
    Measured,
    PlaneRow,
    Plate,
)

LABELS = {"field": "123", "timepoint": "12", "channel": ("w1", "w2", "w3"), "z": "1234"}


def same(stack):
    return stack


@contract(ragged=True)
def loose(stack):
    return stack


@contract(z_out="one", ragged=True)
def one(stack):
    return stack[:1]


@contract(z_out=3)
def three(stack):
    return stack


FUNCTIONS = {"same": same, "loose": loose, "one": one, "three": three}
Z_OUT = {"same": "same", "loose": "same", "one": "one", "three": 3}


def plate_of(fields, timepoints, heights):
    """Return a plate of one well, each channel with its own number of planes, and its manifest."""
    z = max(heights)
    cells = tuple((0, f) for f in range(fields))
    plate = Plate(
        name="p", microscope="imagexpress", layout="flat", uuid=None, rows=("A",), columns=("01",),
        acquisition="1", acquisitions=("1",), wells=("A01",),
        fields=tuple(LABELS["field"][:fields]), timepoints=tuple(LABELS["timepoint"][:timepoints]),
        channels=tuple(Channel(f"w{i + 1}", f"stain{i}", n) for i, n in enumerate(heights)),
        z=tuple(LABELS["z"][:z]), shape_yx=(64, 64), dtype="uint16",
        pixel_size=Measured(0.65, "test"), z_step=Measured(5.0, "test"),
        grid=FieldGrid(1, fields, cells, "test"),
    )  # fmt: skip
    rows = [
        PlaneRow(0, f, t, c, h, "", f"{f}{t}{c}{h}.tif", 100, 7)
        for f, t, c in product(range(fields), range(timepoints), range(len(heights)))
        for h in range(heights[c])
    ]
    return plate, Manifest.from_rows("/plate", rows)


plates = st.builds(
    plate_of,
    st.integers(1, 3),
    st.integers(1, 2),
    st.lists(st.integers(1, 4), min_size=1, max_size=3),
)
chains = st.lists(st.sampled_from(sorted(FUNCTIONS)), min_size=1, max_size=2)
varying = st.lists(st.sampled_from(COMPONENTS), min_size=1, max_size=3, unique=True)
steps = st.fixed_dictionaries(
    {
        "group_by": st.sampled_from(COMPONENTS),
        "varying": varying,
        "first": chains | st.sampled_from([PASS, DROP]),
        "others": chains | st.sampled_from([PASS, DROP]),
        "by_value": st.booleans(),
    }
)


def declared(step):
    """Return the step as a user would write it."""

    def entry(what):
        return what if what in (PASS, DROP) else [FUNCTIONS[name] for name in what]

    stacked = [c for c in step["varying"] if c != step["group_by"]] or step["varying"]
    if step["by_value"] and step["group_by"] not in stacked:
        label = LABELS[step["group_by"]][0]
        pattern = {label: entry(step["first"]), "*": entry(step["others"])}
    else:
        pattern = entry(step["others"] if isinstance(step["others"], list) else ["same"])
    return FunctionStep(pattern, name="s", variable_components=stacked, group_by=step["group_by"])


def model(planes, step):
    """Return {output plane: stack that it comes from}, plane by plane, or None if it is refused."""
    stacks = {}
    for key in planes:
        fixed = tuple((c, getattr(key, c)) for c in COMPONENTS if c not in step.variable_components)
        stacks.setdefault(fixed, []).append(key)
    made = {}
    for fixed, members in stacks.items():
        members.sort(key=lambda k: tuple(getattr(k, c) for c in step.variable_components))
        what = step.pattern
        if not hasattr(what, "invocations"):
            is_first = dict(fixed)[step.group_by] == 0
            what = what[LABELS[step.group_by][0]] if is_first else what["*"]
        if what == DROP:
            continue
        keys = list(members)
        for invocation in [] if what == PASS else what.invocations:
            z_out = Z_OUT[invocation.function.__name__]
            if z_out == "one":
                first = keys[0]
                keys = [first._replace(z=0) if "z" in step.variable_components else first]
            elif z_out != "same":
                keys = [keys[0]._replace(z=i) for i in range(z_out)]
        for key in keys:
            made.setdefault(key, tuple(members))
    return made


@settings(max_examples=150)
@given(plates, st.lists(steps, min_size=1, max_size=2))
def test_groups_members_and_outputs_are_the_models(plate_and_manifest, asked):
    plate, manifest = plate_and_manifest
    written = [declared(step) for step in asked]
    try:
        plan = compile_plan(
            Pipeline(written), plate, manifest,
            config=GlobalPipelineConfig(), resources=Resources(workers=1, memory_bytes=1 << 30),
        )  # fmt: skip
    except HcsflowError:
        event("refused")  # what is refused, and how, is tested by name elsewhere
        return
    planes = {LocalKey(*key[1:]) for key, _ in ((k[1:], p) for k, p in manifest)}
    for bound, step in zip(plan.steps, written, strict=True):
        assert set(bound.input.iter_keys()) == planes
        made = model(sorted(planes), step)
        assert set(bound.output.iter_keys()) == set(made)
        for group in groups_of(bound.input, bound.variable_components):
            branch = bound.branch_for(group)
            for key in output_members(branch, group, bound.variable_components):
                assert made[key] == group.members
        planes = set(made)
