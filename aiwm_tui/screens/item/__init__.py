"""The page of one row of any table but tasks: everything known about it, and its definition."""
