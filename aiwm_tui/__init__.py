"""Everything a person touches: the console (Textual) and the command line. It knows the engine by its contract, its client, its
configuration and where its files lie, and by nothing else; what happens, happens behind requests. Modules of the console import textual,
modules of the command line do not."""
