"""The command `drumline`."""
