"""A worker's own part: who it is, what it claims, how it shows that it lives, and when it ends itself."""
