"""Tasks whose runs and effects a test can count, and a view that sends them."""
