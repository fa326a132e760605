"""Screens that are no tables: what the engine answers to one question, written as lines and asked again while one looks."""
