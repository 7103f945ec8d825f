"""What a model hub holds: revisions found, resolved to commits, brought here within a budget."""
