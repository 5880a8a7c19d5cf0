"""Dask's dashboard, loaded when somebody first looks: it costs more than starting a worker."""

from __future__ import annotations

import getpass
import os
import re
import socket
from importlib import import_module
from typing import Any

from tornado import web

__all__ = ["is_remote", "offer_dashboard", "tunnel_command"]

REMOTE = ("SSH_CONNECTION", "SSH_TTY", "SLURM_JOB_ID", "PBS_JOBID", "LSB_JOBID", "JOB_ID")
"""Variables of which one is set in a login over ssh or in a job of a batch system."""


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
    pages = web.Application([(r"(/.*)", _FirstVisit, {"scheduler": scheduler})])
    scheduler.http_application.add_application(pages)
    return f"http://127.0.0.1:{server.port}/status"


def tunnel_command(link: str) -> str | None:
    """Return the command that makes a dashboard of this machine's loopback seen from elsewhere.

    Parameters
    ----------
    link : str
        The dashboard's address.

    Returns
    -------
    str or None
        To be run on the user's own machine, where the same address works then. None for an
        address that is not on loopback.

    Examples
    --------
    >>> tunnel_command("http://127.0.0.1:40001/status").startswith("ssh -L 40001:127.0.0.1:40001 ")
    True
    """
    found = re.match(r"https?://(?:127\.0\.0\.1|localhost):(\d+)/", link)
    if found is None:
        return None
    port = found[1]
    return f"ssh -L {port}:127.0.0.1:{port} {getpass.getuser()}@{socket.gethostname()}"


def is_remote() -> bool:
    """Tell whether this process was started over ssh or as a job, so that no browser is here."""
    return any(name in os.environ for name in REMOTE)


class _FirstVisit(web.RequestHandler):
    """Loads the dashboard, gives its place up to it and sends the visitor there."""

    def initialize(self, scheduler: Any) -> None:
        self._scheduler = scheduler

    def get(self, path: str) -> None:
        application = self._scheduler.http_application
        if self.application in application.applications:
            application.applications.remove(self.application)
            pages = import_module("distributed.dashboard.scheduler")
            pages.connect(application, self._scheduler.http_server, self._scheduler, prefix="")
        self.redirect("/status" if path == "/" else path)
