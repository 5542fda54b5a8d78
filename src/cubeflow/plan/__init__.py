"""From the configuration and an index to runs, batches, the tree and its keys (floor 5)."""
