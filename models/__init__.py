"""What a model is: families, extraction of routing and losses, the nano model and its corpus."""
