"""Dask's dashboard, loaded when somebody first looks: it costs more than starting a worker."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from tornado import web

__all__ = ["offer_dashboard"]


def offer_dashboard(scheduler: Any) -> str:
    """Let a scheduler's own HTTP server load the dashboard at the first request for it.

    Parameters
    ----------
    scheduler : distributed.Scheduler
        In this process, started without a dashboard.

    Returns
    -------
    str
        The dashboard's address, on loopback.
    """
    server = scheduler.http_server
    pages = web.Application([(r"/(?:status)?", _FirstVisit, {"scheduler": scheduler})])
    scheduler.http_application.add_application(pages)
    return f"http://127.0.0.1:{server.port}/status"


class _FirstVisit(web.RequestHandler):
    """Loads the dashboard, gives its place up to it and sends the visitor there."""

    def initialize(self, scheduler: Any) -> None:
        self._scheduler = scheduler

    def get(self) -> None:
        application = self._scheduler.http_application
        if self.application in application.applications:
            application.applications.remove(self.application)
            pages = import_module("distributed.dashboard.scheduler")
            pages.connect(application, self._scheduler.http_server, self._scheduler, prefix="")
        self.redirect("/status")
