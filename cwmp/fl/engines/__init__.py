"""Ways to run a federation; each moves bytes and knows no method."""
