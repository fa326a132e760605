"""One prompt under several adapters."""
