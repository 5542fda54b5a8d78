"""What a task does: read its inputs, call products, write its outputs (floor 4)."""
