"""What predictions are worth: figures, coverage, calibration, additivity, pictures."""
