"""Tasks that take what a host has."""
