"""What is shown: one self-contained page per study, drawn from the warehouse file and nothing else.

:mod:`reports.page` puts the page together, :mod:`reports.figures` lists its figures, each one SQL
query, :mod:`reports.charts` draws them, :mod:`reports.prose` puts the numbers into plain words.
"""
