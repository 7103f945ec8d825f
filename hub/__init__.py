"""What a model hub holds: revisions resolved to commits, downloaded within a disk budget."""
