"""What is requested: the typed study (:mod:`studies.spec`) and the study files beside it."""
