"""What is shown: one self-contained page per study, drawn from the warehouse file and nothing else.

:mod:`reports.page` puts the page together, :mod:`reports.figures` lists its figures, each one SQL
query, :mod:`reports.charts` draws them. :mod:`reports.evidence` decides what counts; the headline,
the findings (:mod:`reports.prose`), the order of events and the limits say it in plain words.
"""
