"""Prefect flows and the command line; :mod:`flows.study` is the main path."""

import os

from store import environment

# Before Prefect is imported: a run says every 30 seconds that it lives. Prefect's 180 are more than
# the 90 after which deployments/automations/crashed-runs.yaml takes a run for dead.
os.environ.setdefault("PREFECT_FLOWS_HEARTBEAT_FREQUENCY", "30")
environment.prepare()
