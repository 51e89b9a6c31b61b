"""Stand-ins for hardware, at the boundary of the system: a sysfs tree, a C library."""
