"""Prefect flows and the command line; :mod:`flows.study` is the main path."""
