"""The science: pure functions on NumPy arrays, one module per idea.

Nothing here opens a file, knows an orchestrator or a deep-learning framework, or draws from a
global random state: the same arrays and the same seed give the same numbers. Definitions follow
arXiv 2506.21551; each docstring names its section and states where ours differs.
"""
