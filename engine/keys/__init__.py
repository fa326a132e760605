"""API keys: where they come from, whether they are there, and to which hosts they may go.

Only this room reads a key's text, and gives it to whoever calls a provider, for one call. Keys are named in config.toml; no request
sets, shows or stores one."""
