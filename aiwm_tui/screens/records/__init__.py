"""The screen of performance records."""
