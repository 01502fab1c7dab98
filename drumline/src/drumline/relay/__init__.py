"""The relay: publishes what is due, what was lost and what a dead worker held, and announces ends."""
