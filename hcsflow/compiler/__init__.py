"""Pipeline + plate → plan: a visible list of passes, each from plan to plan. Pure."""

from hcsflow.compiler.compile import PASSES, compile_plan
from hcsflow.compiler.explain import explain

__all__ = ["PASSES", "compile_plan", "explain"]
