"""Who used what: sums of what ended, by whom or by what."""
