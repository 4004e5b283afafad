"""Training: losses, the step, the loop, and what surrounds it (schedules, checkpoints, metrics)."""
