"""Tasks that only tests have."""
