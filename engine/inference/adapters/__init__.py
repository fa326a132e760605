"""Adapters as the operator has them: which there are, which versions of each, which of these is current, and what is wrong with a broken
one. The one place where an adapter's name becomes a directory and a digest.

How adapters are applied is the backends' business, which of them stay loaded the cache's, who may name one the control room's."""
