"""Bundles: definitions as JSON documents. Pure: a document and what is in force go in; what would be in force, everything that is
wrong, and what would change come out. Nothing here is stored or announced (`keeping` and `operations.bundles` do that).

A document goes `read` (bytes, files) → `schema` (its form, every mistake) → `folding` (the seeds' names and units into ours) →
`validate` (structure, then each definition among the others) → `diff`. `export` is the way back."""
