"""What one GPU does with Fairloop's own fast paths: `python -m device` (make device-check)."""

import fairloop  # noqa: F401  it says how threads wait, which torch reads when it is loaded
