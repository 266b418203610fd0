"""What the tests share: one clock, one platform script, one merchant, the vectors."""
