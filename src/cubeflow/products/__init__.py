"""One function per map or kernel (floor 2)."""
