"""One function per rule: read, call products, write (floor 5)."""
