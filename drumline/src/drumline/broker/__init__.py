"""The broker: messages are published to it, and it is asked how many wait."""
