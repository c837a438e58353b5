"""What one GPU does with Fairloop's own fast paths: `python -m device` (make device-check)."""
