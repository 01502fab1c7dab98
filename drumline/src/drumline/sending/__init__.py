"""Sending: a task is written into the ledger in its caller's transaction, and published after the commit."""
