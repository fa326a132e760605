"""What the house has learned: lessons, and which of them a task is given.

Here live the store of lessons with their versions and the pure matching of lessons with tasks. Nothing here runs a task or talks to a
model: whoever does asks here first."""
