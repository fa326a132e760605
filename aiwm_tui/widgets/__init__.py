"""The parts every screen is made of: the live table, the fixed lines, the strip, prompt and streaming text.

A widget draws what it is given and reports what was pressed. It never calls the engine and knows no screen."""
