"""The first screen of a home in which nothing has been done yet: what is on this machine, and the ways to begin."""
