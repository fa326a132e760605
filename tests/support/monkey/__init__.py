"""A monkey at the console: keys by chance and by seed, somebody who watches what is destroyed, and an engine with work."""
