"""What a deployment's settings, tasks and routes would lose, double or leave open."""
