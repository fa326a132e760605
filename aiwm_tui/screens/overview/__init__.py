"""The overview: what needs you first, then queues, models and what changed."""
