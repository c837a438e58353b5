"""What measures speed, side by side with the usual way; not part of the wheel."""

import fairloop  # noqa: F401  it says how threads wait, which torch reads when it is loaded
