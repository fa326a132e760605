"""The toy model at work, message by message."""
