"""Prefect tasks, one module per step: read artifacts, make one call, write one artifact.

:mod:`tasks.step` holds the one decorator that makes a function such a task, and with it the
cache decision; :mod:`tasks.workers` runs the bodies in worker processes.
"""
