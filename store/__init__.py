"""What is stored: identities, artifacts, the warehouse, the tracking store."""
