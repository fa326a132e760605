"""Tools: what a worker may call, and the one gate that every call passes.

Here live safe paths beneath a root, data sources and the file store, the file tools, the catalogue of callable requests and the
permission gate. Nothing here decides what runs when, talks to a model, or opens a path any other way than through `paths`."""
