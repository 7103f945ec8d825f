"""What a benchmark is: lm-eval task files, their items, and scoring one checkpoint on them."""
