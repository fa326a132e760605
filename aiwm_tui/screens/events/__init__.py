"""Events: what happened, newest first."""
