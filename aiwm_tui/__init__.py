"""Everything a person touches: the console (Textual) and the command line. It imports `engine.contract`, `engine.client` and
`engine.resources` and nothing else of the engine; what happens, happens behind requests. Modules of the console import textual,
modules of the command line do not."""
