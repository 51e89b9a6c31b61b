"""A model of one device, corrected for another by a few blocks."""
