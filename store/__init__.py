"""What is kept: identities, artifacts, the warehouse, the tracking store."""
