"""What measures speed, side by side with the usual way; not part of the wheel."""
