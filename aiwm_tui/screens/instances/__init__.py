"""Instances: who does what now."""
