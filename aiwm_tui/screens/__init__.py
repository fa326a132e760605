"""One folder a screen, and the few kinds of page they are made of. A screen says which table it shows, its columns, what a row
opens, what the strip explains and what an empty table would be filled by. Modules are imported when their screen is first shown."""
