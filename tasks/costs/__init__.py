"""What a study would cost: tokens, operations, hours, bytes, before anything starts."""
