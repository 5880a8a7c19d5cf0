"""The frozen plan: all that compiler, graph and execute share. Values and pure rules, no I/O."""

from hcsflow.plan.plan import SCHEMA, Plan, Resources, Segment
from hcsflow.plan.planes import Group, LocalKey, PlaneSet, agreeing, groups_of
from hcsflow.plan.steps import (
    Branch,
    Call,
    SpecialLink,
    SpecialTarget,
    StepPlan,
    output_members,
)
from hcsflow.plan.text import stable_json
from hcsflow.plan.writes import LabelWrite, SideWrite, TableWrite, WritePlan

__all__ = [
    "SCHEMA",
    "Branch",
    "Call",
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
    "output_members",
    "stable_json",
]
