"""Families of mixture-of-experts models: one file each, registered in `registry.py`."""
