"""Plugin for the embedded Airflow: its API server refuses requests that other sites' pages send.

Airflow reads this folder by its setting `plugins_folder`; the rules are in web_guard.py.
"""

import os

from airflow.plugins_manager import AirflowPlugin

from pipeline_assets.web_guard import GuardedApplication, WebGuard, allowed_hosts


class WebGuardPlugin(AirflowPlugin):
    """Puts the API server's application behind the guard."""

    name = "web_guard"
    fastapi_root_middlewares = [  # noqa: RUF012 - declared so by Airflow
        {
            "name": "web guard",
            "middleware": GuardedApplication,
            "kwargs": {"guard": WebGuard(names=allowed_hosts(os.environ))},
        }
    ]
