"""Metric calibration: what each metric says of corpora whose net stereotype rate is known."""
