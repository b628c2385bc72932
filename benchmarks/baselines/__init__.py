"""What others would do, run beside us."""
