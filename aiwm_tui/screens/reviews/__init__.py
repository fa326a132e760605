"""Reviews that supervisors still owe."""
