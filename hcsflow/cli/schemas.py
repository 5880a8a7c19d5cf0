"""What ``--json`` prints, verb by verb, as models; their JSON Schemas are public.

A document's number grows when a field is taken away or changes its meaning.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from hcsflow.cli.documents import (
    ConfigShowDocument,
    DemoDocument,
    DoctorDocument,
    FunctionsDocument,
    InspectDocument,
    Part,
)
from hcsflow.cli.run_documents import (
    CancelDocument,
    DetachedDocument,
    FailuresDocument,
    PlanDocument,
    ReportDocument,
    RunDocument,
    StatusDocument,
    VerifyDocument,
)
from hcsflow.config import settings_schema
from hcsflow.errors import UsageError, nearest
from hcsflow.execute.profiles import profile_schema
from hcsflow.pipeline.document import pipeline_schema

__all__ = ["DOCUMENTS", "FILES", "NAMES", "json_schema"]


DOCUMENTS: dict[str, type[Part]] = {
    "cancel": CancelDocument,
    "config-show": ConfigShowDocument,
    "demo": DemoDocument,
    "detached": DetachedDocument,
    "doctor": DoctorDocument,
    "failures": FailuresDocument,
    "functions": FunctionsDocument,
    "inspect": InspectDocument,
    "plan": PlanDocument,
    "report": ReportDocument,
    "run": RunDocument,
    "status": StatusDocument,
    "verify": VerifyDocument,
}


FILES: dict[str, Callable[[], dict[str, Any]]] = {
    "config": settings_schema,
    "pipeline": pipeline_schema,
    "profile": profile_schema,
}
"""Files that are read, and what makes their schemas."""

NAMES = sorted([*DOCUMENTS, *FILES])
"""What `json_schema` knows."""


def json_schema(name: str) -> dict[str, Any]:
    """Return the JSON Schema of a verb's document, or of a file that is read.

    Raises
    ------
    UsageError
        If there is none of that name; lists those there are.
    """
    if name in FILES:
        return FILES[name]()
    if name not in DOCUMENTS:
        meant = nearest(name, NAMES)
        raise UsageError(
            f"there is no schema {name!r}; there are: {', '.join(NAMES)}",
            hint=f"did you mean {meant!r}?" if meant else None,
        )
    return DOCUMENTS[name].model_json_schema(by_alias=True)
