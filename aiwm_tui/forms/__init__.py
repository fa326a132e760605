"""Forms as data: the fields of a struct, what is typed into them, and the struct that comes of it. Nothing here imports textual."""
