"""The versions of all adapters, and the caches of the processes that hold them."""
