"""Pools: their instances, limits, and what holds them back."""
