"""Signs of life: `/livez` and `/readyz`, and the heartbeats of beats and relays."""
