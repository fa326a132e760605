"""Every series that is sampled: all of them as lines, one or a few of them drawn large."""
