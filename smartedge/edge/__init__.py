"""One worker's parts put together, and how a reload replaces them."""
