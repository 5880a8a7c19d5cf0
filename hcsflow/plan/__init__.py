"""The frozen plan: all that compiler, graph and execute share. Values and pure rules, no I/O."""

from hcsflow.plan.plan import READING_BYTES, SCHEMA, Plan, Resources, Segment
from hcsflow.plan.planes import Group, LocalKey, PlaneSet, agreeing, groups_of, in_turns
from hcsflow.plan.steps import (
    Branch,
    Call,
    SpecialLink,
    SpecialTarget,
    StepPlan,
    output_members,
)
from hcsflow.plan.text import stable_json
from hcsflow.plan.writes import Carried, LabelWrite, SideWrite, TableWrite, WritePlan

__all__ = [
    "READING_BYTES",
    "SCHEMA",
    "Branch",
    "Call",
    "Carried",
    "Group",
    "LabelWrite",
    "LocalKey",
    "Plan",
    "PlaneSet",
    "Resources",
    "Segment",
    "SideWrite",
    "SpecialLink",
    "SpecialTarget",
    "StepPlan",
    "TableWrite",
    "WritePlan",
    "agreeing",
    "groups_of",
    "in_turns",
    "output_members",
    "stable_json",
]
