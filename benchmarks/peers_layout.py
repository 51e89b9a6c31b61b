"""Where things lie in the control file; `Control` of ``ticker.c``."""

WINDOWS_AT, SKIPS_AT, BLANK_AT, WINDOWS_FROM = 16, 24, 40, 56
MOST_WINDOWS = 8192
CONTROL_BYTES = WINDOWS_FROM + 16 * MOST_WINDOWS
