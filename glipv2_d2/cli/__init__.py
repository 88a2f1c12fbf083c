"""What people run: the commands."""
